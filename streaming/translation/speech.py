"""Speech to text: an XLS-R encoder with an adapter of three strided convolutions, and the decoder of mBART-50.

The checkpoints are those of XLS-R (Babu et al., arXiv 2111.09296, section 4.4): `facebook/wav2vec2-xls-r-300m-en-to-15`
and others. The first token of the decoder names the target language, so rows of one batch may have different ones. One
pass of the encoder costs about as much as a second pass of the recognizer: this is for a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import torch
import transformers
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from ..errors import ModelError
from ..frames import SAMPLE_RATE
from ..languages import resolve
from ..model.source import Source
from .checkpoints import language_tokens, load_network, load_tokenizer
from .generation import LONGEST, generate
from .text import finished
from .translator import Segment, TranslationError

TOKENS_PER_SECOND: Final = 8  # more than anyone speaks
_Network: Any = transformers.SpeechEncoderDecoderModel
_Extractor: Any = transformers.Wav2Vec2FeatureExtractor

log = logging.getLogger("xlsr_live.translation")


class SpeechTranslator:
    """Translates the audio of utterances; `beams` 1 is greedy. Raises `ModelError`."""

    speech = True
    costly = True

    def __init__(
        self, source: Source, config: Any, *, device: str = "cpu", beams: int = 1, only: Sequence[str] = ()
    ) -> None:
        self.name = source.name
        self.max_batch = 16 if device.startswith("cuda") else 1
        self._beams = beams
        self._tokenizer = load_tokenizer(source)
        self._extractor = _Extractor.from_pretrained(source.path, **source.options)
        self._network: Any = load_network(source, _Network, config, device)
        self._tokens = language_tokens(self._tokenizer)
        if not self._tokens:
            raise ModelError(f"{self.name} has a tokenizer without languages")
        self._targets = self._trained(only)
        if not device.startswith("cuda"):
            log.warning("%s translates speech on a CPU, which takes about as long as the speech itself", self.name)

    def sources(self) -> tuple[str, ...]:
        return ()

    def targets(self, source: str | None) -> tuple[str, ...]:
        return self._targets

    def _trained(self, only: Sequence[str]) -> tuple[str, ...]:
        """The tokenizer names all languages of mBART-50, and nothing says which the checkpoint was trained for: some
        tokens stand for others that mBART lacks. So it is the checkpoint's default, or what the user names.
        """
        if only:
            return tuple(resolve(each, tuple(self._tokens), self.name) for each in only)
        default = self._network.generation_config.forced_bos_token_id
        return tuple(code for code, token in self._tokens.items() if token == default) or tuple(self._tokens)

    def translate(self, segments: Sequence[Segment]) -> list[str]:
        samples = [segment.samples for segment in segments if segment.samples is not None]
        if len(samples) < len(segments):
            raise TranslationError("the audio is missing")
        inputs = self._extractor(
            samples, sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt", return_attention_mask=True
        )
        mask = inputs["attention_mask"].to(self._network.device)
        states = encode(self._network.encoder, inputs["input_values"].to(mask.device, self._network.dtype), mask)
        rows = generate(
            self._network,
            {"encoder_outputs": BaseModelOutput(last_hidden_state=states), "attention_mask": mask},
            starts=[self._tokens[segment.target] for segment in segments],
            limits=[min(LONGEST, 16 + int(TOKENS_PER_SECOND * len(each) / SAMPLE_RATE)) for each in samples],
            beams=self._beams,
        )
        return [finished(self._tokenizer.decode(row, skip_special_tokens=True)) for row in rows]

    def close(self) -> None:
        self._network = None


@torch.inference_mode()
def encode(encoder: Any, values: Tensor, mask: Tensor) -> Tensor:
    """States of a batch, (rows, positions, width). `values` and `mask` are (rows, samples).

    As the encoder's own `forward`, but with zeros behind each row where the adapter's convolutions reach beyond it, as
    there are without padding: a row does not depend on the length of the others.
    """
    features = encoder.feature_extractor(values).transpose(1, 2)
    lengths = encoder._get_feat_extract_output_lengths(mask.sum(dim=1), add_adapter=False)
    within = torch.arange(features.shape[1], device=mask.device) < lengths[:, None]
    projected, _ = encoder.feature_projection(features)
    states = encoder.encoder(projected, attention_mask=within).last_hidden_state
    adapter = encoder.adapter
    if adapter.proj is not None:
        states = adapter.proj_layer_norm(adapter.proj(states))
    states = states.transpose(1, 2)
    for layer in adapter.layers:
        within = torch.arange(states.shape[2], device=mask.device) < lengths[:, None]
        states = layer(states * within[:, None])
        lengths = (lengths - 1) // layer.conv.stride[0] + 1
    return states.transpose(1, 2)
