"""The recipe of the packaged model: data, curriculum, training, n-gram, figures. Not part of an installed package."""
