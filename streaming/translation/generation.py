"""Generating tokens with an encoder-decoder of transformers: a target language for each row, bounded, without loops."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from .translator import TranslationError

LONGEST: Final = 200  # tokens of an answer
REPEATED: Final = 4  # times that a phrase of tokens may occur in a row
LONGEST_PHRASE: Final = 12  # tokens
_CHECK_EVERY: Final = 8  # tokens


class LoopStop(StoppingCriteria):
    """Ends a row once it repeats a phrase: an encoder-decoder that is stuck never ends by itself."""

    def __call__(self, input_ids: Tensor, scores: Any, **options: Any) -> Any:
        looping = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        if input_ids.shape[1] % _CHECK_EVERY:
            return looping
        for length in range(1, LONGEST_PHRASE + 1):
            tail = input_ids[:, -REPEATED * length :]
            if tail.shape[1] == REPEATED * length:
                phrases = tail.reshape(len(tail), REPEATED, length)
                looping |= (phrases == phrases[:, :1]).all(dim=2).all(dim=1)
        return looping


def generate(
    model: Any, inputs: dict[str, Any], *, starts: Sequence[int] | None, limits: Sequence[int], beams: int
) -> list[list[int]]:
    """New tokens of each row, at most its limit. `starts` has the first token of each row, which names its language.

    The answer of a row does not depend on the others: limits are those of the rows, not of the batch. A beam search
    depends on the bound that it knows, so that is the same for all.
    """
    settings: dict[str, Any] = {
        "num_beams": beams,
        "do_sample": False,
        "max_new_tokens": max(limits) if beams == 1 else LONGEST,
    }
    settings["max_length"] = None
    if beams == 1:
        settings["stopping_criteria"] = StoppingCriteriaList([LoopStop()])
    prefix = 1
    if starts is not None:
        first = model.generation_config.decoder_start_token_id
        settings["decoder_input_ids"] = torch.tensor([[first, start] for start in starts], device=model.device)
        settings["forced_bos_token_id"] = None
        prefix = 2
    with torch.inference_mode(), _memory():
        rows = model.generate(**inputs, **settings)
    return [row[prefix : prefix + limit] for row, limit in zip(rows.tolist(), limits, strict=True)]


@contextlib.contextmanager
def _memory() -> Generator[None]:
    """Give the memory of a failed batch back to the recognizer, which shares the device."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise TranslationError("the device has too little memory for this translation") from error


def place(model: Any, device: str) -> Any:
    """The model on its device, ready for inference: bfloat16 on a GPU."""
    kind = torch.bfloat16 if device.startswith("cuda") else torch.float32
    return model.to(device=device, dtype=kind).eval()
