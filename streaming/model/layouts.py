"""The layouts in which checkpoints of this one network are published: wav2vec 2.0, HuBERT and Omnilingual ASR.

The three share CNN, positions, layers and head, so one implementation runs them all. The others' configs become a
`Wav2Vec2Config`, and their weights get its names while they load. Layouts differ in one more thing: the positional
convolution of Omnilingual ASR (arXiv 2511.09690) is published without weight norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import transformers
from torch.nn.utils import parametrize

from ..audio.normalize import EPSILON, OMNIASR_EPSILON
from ..errors import ModelError
from ..frames import FIELD, STRIDE, geometry
from .source import Source

# Decorators hide the types of transformers' classes.
_Wav2Vec2: Any = transformers.Wav2Vec2Config
_Hubert: Any = transformers.HubertConfig
_Model: Any = transformers.Wav2Vec2ForCTC

_OMNIASR: Final = {
    "model.audio_tower.subsampling.conv_layers": "wav2vec2.feature_extractor.conv_layers",
    "model.audio_tower.subsampling.layer_norm": "wav2vec2.feature_projection.layer_norm",
    "model.audio_tower.subsampling.projection": "wav2vec2.feature_projection.projection",
    "model.audio_tower.encode_positions.conv": "wav2vec2.encoder.pos_conv_embed.conv",
    "model.audio_tower.layers": "wav2vec2.encoder.layers",
    "model.audio_tower.layer_norm": "wav2vec2.encoder.layer_norm",
    "ctc_head": "lm_head",
}
_OMNIASR_SHARED: Final = (
    "hidden_size", "conv_dim", "conv_kernel", "conv_stride", "conv_bias", "num_attention_heads", "num_hidden_layers",
    "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "intermediate_size", "layer_norm_eps", "hidden_act",
)  # fmt: skip


class _WithoutWeightNorm(_Model):
    """A `Wav2Vec2ForCTC` whose positional convolution holds its weight itself."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        conv = self.wav2vec2.encoder.pos_conv_embed.conv
        parametrize.remove_parametrizations(conv, "weight", leave_parametrized=True)


@dataclass(frozen=True)
class Layout:
    """How to read a checkpoint as a `Wav2Vec2ForCTC`."""

    config: Any  # Wav2Vec2Config
    network: Any = _Model  # a class with `from_pretrained`
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])  # prefixes of weights
    epsilon: float = EPSILON  # of the normalization
    blank: int | None = None  # CTC's, where the config names it


def find_layout(source: Source) -> Layout:
    """Read the checkpoint's config. Raises `ModelError` if it is of another network."""
    read = cast(Any, transformers.PreTrainedConfig).get_config_dict
    settings: dict[str, Any] = read(source.path, **source.options)[0]
    kind: str | None = settings.get("model_type")
    architectures: list[str] = settings.get("architectures") or []
    for layout, (architecture, make) in _LAYOUTS.items():
        if kind == layout and architecture in architectures:
            found = make(source, settings)
            config = found.config
            if geometry(config.conv_kernel, config.conv_stride) != (STRIDE, FIELD) or config.add_adapter:
                raise ModelError(f"{source.name} does not make one frame of every {STRIDE} samples as XLS-R does")
            return found
    names = ", ".join(architectures) or str(kind)
    hint = "; it is a pre-trained base without a CTC head: pick a fine-tuned one" if "PreTrain" in names else ""
    known = ", ".join(architecture for architecture, _ in _LAYOUTS.values())
    raise ModelError(f"{source.name} is {names}, none of {known}{hint}")


def _wav2vec2(source: Source, settings: Mapping[str, Any]) -> Layout:
    config = _Wav2Vec2.from_pretrained(source.path, **source.options)
    return Layout(config, blank=settings.get("blank_token_id"))


def _hubert(source: Source, settings: Mapping[str, Any]) -> Layout:
    own = _Hubert.from_pretrained(source.path, **source.options)
    if own.conv_pos_batch_norm or not own.feat_proj_layer_norm:
        raise ModelError(f"{source.name} is a HuBERT of an unusual kind (conv_pos_batch_norm, feat_proj_layer_norm)")
    ours = {key: value for key, value in own.to_dict().items() if key not in ("model_type", "architectures")}
    return Layout(_Wav2Vec2(**ours), renamed={"hubert": "wav2vec2"}, blank=settings.get("blank_token_id"))


def _omniasr(source: Source, settings: Mapping[str, Any]) -> Layout:
    theirs: Any = getattr(transformers, "OmniASRCTCConfig", None)
    if theirs is None:
        raise ModelError(f"{source.name} needs a newer transformers, one with OmniASRForCTC: update it")
    own = theirs.from_pretrained(source.path, **source.options)
    shared = {name: getattr(own.audio_config, name) for name in _OMNIASR_SHARED}
    config = _Wav2Vec2(
        **shared,
        feat_extract_norm="layer",
        feat_extract_activation=own.audio_config.hidden_act,
        do_stable_layer_norm=True,
        vocab_size=own.vocab_size,
        pad_token_id=own.pad_token_id,
        mask_time_prob=0,
        live_lookahead_ms=settings.get("live_lookahead_ms"),
    )
    return Layout(config, _WithoutWeightNorm, _OMNIASR, OMNIASR_EPSILON, own.blank_token_id)


# By `model_type`: the architecture, and how to read it.
_LAYOUTS: Final[dict[str, tuple[str, Callable[[Source, Mapping[str, Any]], Layout]]]] = {
    "wav2vec2": ("Wav2Vec2ForCTC", _wav2vec2),
    "hubert": ("HubertForCTC", _hubert),
    "omniasr_ctc": ("OmniASRForCTC", _omniasr),
}
