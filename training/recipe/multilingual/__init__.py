"""The recipe for a small multilingual checkpoint in the layout of MMS: adapters beside the packaged English model."""
