"""Models that restore punctuation and case: an ONNX graph, a SentencePiece model and `config.yaml` in one folder.

This is the layout of the models "punct_cap_seg" and "punctuation_fullstop_truecase" on the Hugging Face hub
(Apache-2.0; their cards describe the graph). From small letters without punctuation the graph predicts for each piece
the punctuation before and after it, which of its letters are capitals, and whether a sentence ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..captions.punctuation import Punctuate, punctuate_pauses, same_words
from ..errors import ModelError, first_line

log = logging.getLogger("xlsr_live.model")

_SPACE: Final = "▁"  # SentencePiece's, before a word
_ACRONYM: Final = "<ACRONYM>"  # a full stop after each letter
_OVERLAP: Final = 16  # pieces that two windows of a long text share
_INPUT, _OUTPUTS = "input_ids", 4


class _Config(msgspec.Struct):
    max_length: int  # pieces, with those of start and end
    pre_labels: list[str]
    post_labels: list[str]
    null_token: str = "<NULL>"


class _Piece(NamedTuple):
    """A piece of the text, and the predictions about it."""

    text: str
    before: str
    after: str
    capitals: Sequence[bool]  # by character of the piece


def load_punctuation(name: str | None) -> Punctuate:
    """A model by folder or Hugging Face name; None: full stops at pauses (`punctuate_pauses`). Raises `ModelError`."""
    if name is None:
        return punctuate_pauses
    folder = Path(name).expanduser()
    return PunctuationModel(name, folder if folder.is_dir() else _download(name))


class PunctuationModel:
    """Callable as `Punctuate`, from any thread."""

    def __init__(self, name: str, folder: Path) -> None:
        try:
            import onnxruntime
            import sentencepiece
            import yaml
        except ModuleNotFoundError as error:
            install = "pip install 'xlsr-live[punctuation]'"
            raise ModelError(f"punctuation needs the package {error.name}: {install}") from error
        graph, pieces = (_only(name, folder, suffix) for suffix in (".onnx", ".model"))
        runtime = cast(Any, onnxruntime)
        try:
            content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            self._config = msgspec.convert(content, _Config)
            self._pieces: Any = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
            options = runtime.SessionOptions()
            options.intra_op_num_threads = 1  # the recognizer needs the others
            session = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # those of ONNX Runtime have no common class
            raise ModelError(f"{name} cannot be loaded: {first_line(error)}") from error
        if [each.name for each in session.get_inputs()] != [_INPUT] or len(session.get_outputs()) != _OUTPUTS:
            raise ModelError(f"{name} is no model for punctuation of the known layout (docs/captions.md)")
        self._run: Any = session.run
        try:
            self._predict(self._pieces.encode("one"))
        except Exception as error:
            raise ModelError(f"{name} does not run: {first_line(error)}") from error

    def __call__(self, text: str, ended: bool) -> str:
        """The text with punctuation and case. Where the model does not keep the words, as with letters that it does
        not know, the rule of pauses."""
        try:
            shown = _joined(self._predict(self._pieces.encode(text.lower())))
        except Exception:  # those of ONNX Runtime have no common class
            log.exception("the model for punctuation failed; the rule gives the text instead")
            return punctuate_pauses(text, ended)
        if not same_words(text, shown) or shown.count(" ") != text.count(" "):
            return punctuate_pauses(text, ended)
        return shown

    def _predict(self, ids: Sequence[int]) -> list[_Piece]:
        """Windows of a long text overlap; each gives the predictions that are not at its inner edges."""
        size = self._config.max_length - 2
        step = max(1, size - _OVERLAP)
        found: list[_Piece] = []
        for at in range(0, len(ids), step):
            window = ids[at : at + size]
            pieces = self._window(window)
            last = at + size >= len(ids)
            found += pieces[len(found) - at : len(pieces) if last else len(pieces) - _OVERLAP // 2]
            if last:
                break
        return found

    def _window(self, ids: Sequence[int]) -> list[_Piece]:
        whole = np.array([[self._pieces.bos_id(), *ids, self._pieces.eos_id()]], np.int64)
        before, after, capitals, _ = (output[0, 1:-1] for output in self._run(None, {_INPUT: whole}))
        return [
            _Piece(
                self._pieces.id_to_piece(index),
                self._label(self._config.pre_labels, before[place]),
                self._label(self._config.post_labels, after[place]),
                cast(NDArray[np.bool_], capitals[place]).astype(bool).tolist(),
            )
            for place, index in enumerate(ids)
        ]

    def _label(self, labels: Sequence[str], index: int) -> str:
        label = labels[int(index)]
        return "" if label == self._config.null_token else label


def _joined(pieces: Sequence[_Piece]) -> str:
    text = ""
    for piece in pieces:
        begins = piece.text.startswith(_SPACE)
        if begins and text:
            text += " "
        letters = [
            char.upper() if place < len(piece.capitals) and piece.capitals[place] else char
            for place, char in enumerate(piece.text)
        ][begins:]
        if piece.after == _ACRONYM:
            text += piece.before + "".join(f"{char}." for char in letters)
        else:
            text += piece.before + "".join(letters) + piece.after
    return text


def _only(name: str, folder: Path, suffix: str) -> Path:
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        raise ModelError(f"{name} holds {len(found) or 'no'} files *{suffix}; a model for punctuation has one")
    return found[0]


def _download(name: str) -> Path:
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        raise ModelError(f"{name}: no such folder, and not a Hugging Face name (owner/model)")
    import huggingface_hub

    try:
        fetch = cast(Any, huggingface_hub).snapshot_download
        return Path(fetch(name, allow_patterns=["config.yaml", "*.onnx", "*.model"]))
    except Exception as error:  # also those of the hub's HTTP library, which have no public base
        raise ModelError(f"{name} cannot be fetched from the Hugging Face hub: {first_line(error)}") from error
