"""An identification model, which says what language the speech has: a `Wav2Vec2ForSequenceClassification` such as
MMS-LID (arXiv 2305.13516), with an encoder of its own; or its head alone, over the encoder of the recognizer.

The head is a projection, a mean over time and a classifier. All of it is linear, so one linear head for each frame,
the product of both, gives after the mean the same logits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import safetensors
import transformers
from safetensors import SafetensorError
from torch import Tensor

from ..audio.normalize import normalize
from ..errors import ModelError
from ..frames import FIELD, SAMPLE_RATE, STRIDE, geometry
from .answers import Float32, Pending
from .assemble import bake_weight_norm, full_passes
from .encoder import XlsrEncoder
from .full_pass import PassEncoder
from .layouts import Layout
from .pickled import find_file
from .pretrained import explained, load_model
from .source import SAFE, Source, find_source

_KIND: Final = "Wav2Vec2ForSequenceClassification"
_UNNAMED: Final = re.compile(r"LABEL_\d+")  # of transformers, for classes without a name
_HEAD: Final = ("projector.weight", "projector.bias", "classifier.weight", "classifier.bias")

# Decorators hide the types of transformers' classes.
_Config: Any = transformers.Wav2Vec2Config
_Extractor: Any = transformers.Wav2Vec2FeatureExtractor
_Model: Any = transformers.Wav2Vec2ForSequenceClassification


class Identifier:
    """Only the thread that runs the model uses it. `labels` name the classes as the checkpoint does."""

    def __init__(self, name: str, labels: Sequence[str], passes: PassEncoder, *, normalized: bool) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._passes = passes
        self._normalized = normalized

    def begin(self, batch: Sequence[Float32]) -> Pending:
        """Log-probabilities of the classes in each frame, (frames, classes) float32, of audio that is not normalized,
        (n,) with n of at least 400. The softmax of their mean over time has the probabilities for the audio."""
        samples = [normalize(each) if self._normalized else each for each in batch]
        return self._passes.begin(samples, [None] * len(batch))


def load_identifier(name: str, encoder: XlsrEncoder) -> Identifier:
    """For a recognizer, whose device and number format it shares. Raises `ModelError`."""
    if encoder.languages is None:
        raise ModelError(f"{encoder.info.name} does not have several languages to choose from: leave {name} out")
    source = find_source(name, base=True)
    transformers.utils.logging.disable_progress_bar()
    try:
        config = _config(source)
        head = _head_alone(source)
        if head is not None:
            passes, normalized = _over(encoder, source, config, head), encoder.normalized
        else:
            extractor = _Extractor.from_pretrained(source.path, **source.options)
            if extractor.sampling_rate != SAMPLE_RATE:
                raise ModelError(f"{source.name} needs audio at {extractor.sampling_rate} Hz, not {SAMPLE_RATE} Hz")
            passes, normalized = _own_encoder(source, config, encoder), bool(extractor.do_normalize)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise explained(source, None, error) from error
    labels = [str(config.id2label[index]) for index in range(config.num_labels)]
    return Identifier(source.name, labels, passes, normalized=normalized)


def _config(source: Source) -> Any:
    read = cast(Any, transformers.PreTrainedConfig).get_config_dict
    settings: dict[str, Any] = read(source.path, **source.options)[0]
    names: list[str] = settings.get("architectures") or [str(settings.get("model_type"))]
    if names != [_KIND]:
        raise ModelError(f"{source.name} is {', '.join(names)}, not {_KIND}: it identifies no languages")
    config = _Config.from_pretrained(source.path, **source.options)
    if not (config.feat_extract_norm == "layer" and config.do_stable_layer_norm) or config.add_adapter:
        raise ModelError(
            f"{source.name} is not built as XLS-R is (layer norm in the CNN and before each layer's blocks)"
        )
    if geometry(config.conv_kernel, config.conv_stride) != (STRIDE, FIELD):
        raise ModelError(f"{source.name} does not make one frame of every {STRIDE} samples as XLS-R does")
    if config.use_weighted_layer_sum:
        raise ModelError(f"{source.name} weighs all layers (use_weighted_layer_sum), which is not supported")
    if unnamed := next((label for label in config.id2label.values() if _UNNAMED.fullmatch(str(label))), None):
        raise ModelError(f"{source.name} names no languages but {unnamed!r}: its config.json needs id2label")
    return config


def _own_encoder(source: Source, config: Any, encoder: XlsrEncoder) -> PassEncoder:
    model = load_model(source, Layout(config, _Model), None, encoder.dtype, many=False)
    head = _product(source, {name: tensor for name, tensor in model.state_dict().items() if name in _HEAD})
    bake_weight_norm(model)
    model = model.to(device=encoder.device, dtype=encoder.dtype)
    weight, bias = (tensor.to(encoder.device) for tensor in head)
    return full_passes(model, (weight, bias), int8=encoder.info.dtype == "int8")


def _over(encoder: XlsrEncoder, source: Source, config: Any, head: Mapping[str, Tensor]) -> PassEncoder:
    """A head over the recognizer's encoder, without the adapters of its languages."""
    weight, bias = _product(source, head)
    passes = encoder.with_head(weight, bias)
    if passes is None:
        raise ModelError(
            f"{source.name} is a head for {config.hidden_size} features, which {encoder.info.name} has not"
        )
    return passes


def _head_alone(source: Source) -> Mapping[str, Tensor] | None:
    """The tensors of a checkpoint that has a head only; None for one with an encoder."""
    if (file := find_file(source, SAFE[0])) is None:
        return None
    with cast(Any, safetensors).safe_open(file, "pt") as content:
        names: list[str] = list(content.keys())
        if any(name.startswith("wav2vec2.") for name in names):
            return None
        return {name: content.get_tensor(name) for name in names}


def _product(source: Source, head: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one linear head."""
    if set(head) != set(_HEAD):
        raise ModelError(f"{source.name} lacks a part of its head ({', '.join(_HEAD)})")
    inner, inner_bias, outer, outer_bias = (head[name].double() for name in _HEAD)
    return (outer @ inner).float(), (outer @ inner_bias + outer_bias).float()
