"""A checkpoint in the layout of MMS: an English model and, beside it, adapters for other languages.

English keeps the head of the model; its adapters are the identity. Every other language begins as English with its own
letters: a letter with a mark takes the row of the plain one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import safetensors.torch
import torch
import transformers
from torch import Tensor

from ....streaming.ctc.calibration import FILE
from ....streaming.errors import ModelError
from ....streaming.model.source import find_source
from ...export import ADAPTER

WIDTH: Final = 32  # of the adapters
ENGLISH: Final = "eng"
DIGEST: Final = "base.sha256"  # beside the adapters: that of the model's weights
BASE: Final = "base"  # beside the adapters, optional: the model itself, when the one that is named has new weights
LID: Final = "lid"  # beside the adapters: the folder of the head that identifies the language
CALIBRATIONS: Final = "languages"  # folder with a folder for each language
SPECIAL: Final = ("<pad>", "<s>", "</s>", "<unk>", "|")
_PLAIN: Final = "abcdefghijklmnopqrstuvwxyz"
LETTERS: Final[Mapping[str, str]] = {
    "deu": f"{_PLAIN}äöüß'",
    "spa": f"{_PLAIN}áéíñóúü",
    "fra": f"{_PLAIN}àâæçèéêëîïôùûüÿœ'",
    "ita": f"{_PLAIN}àèéìòù'",
    "por": f"{_PLAIN}àáâãçéêíóôõú",
}
_UNMARKED: Final = {"ß": "s", "œ": "o", "æ": "a"}

_Config: Any = transformers.Wav2Vec2Config
_Model: Any = transformers.Wav2Vec2ForCTC
_Tokenizer: Any = transformers.Wav2Vec2CTCTokenizer
_Extractor: Any = transformers.Wav2Vec2FeatureExtractor
_torch_files: Any = cast(Any, safetensors.torch)


def begin(model: str, folder: Path, *, seed: int = 1) -> None:
    """Write the English model with an adapter for each language of `LETTERS`, none trained yet."""
    english, vocabulary = _widened(model)
    torch.manual_seed(seed)
    adapters: dict[str, dict[str, Tensor]] = {}
    vocabularies: dict[str, Sequence[str]] = {}
    for language, letters in LETTERS.items():
        vocabularies[language] = (*SPECIAL, *letters)
        adapters[language] = _first_adapter(english, vocabulary, vocabularies[language])
    _write(english, vocabulary, adapters, vocabularies, folder)


def join(model: str, trained: Path, folder: Path) -> None:
    """Write the English model with the adapters of a folder that `keep` wrote, and with its calibrations.

    A folder `base` in that folder is the English model, if there is one. Raises `ModelError` if the adapters were
    trained beside another model.
    """
    model = base_of(model, trained)
    english, vocabulary = _widened(model)
    own: dict[str, dict[str, int]] = json.loads((trained / "vocab.json").read_text(encoding="utf-8"))
    vocabularies = {language: sorted(tokens, key=lambda token: tokens[token]) for language, tokens in own.items()}
    adapters = {language: read(trained / ADAPTER.format(language)) for language in vocabularies}
    _write(english, vocabulary, adapters, vocabularies, folder)
    if (trained / CALIBRATIONS).is_dir():
        shutil.copytree(trained / CALIBRATIONS, folder / CALIBRATIONS, dirs_exist_ok=True)


def base_of(model: str, trained: Path) -> str:
    """The model that the adapters of a folder belong to. Raises `ModelError` if it is not there."""
    own = trained / BASE
    name = str(own) if own.is_dir() else model
    if (trained / DIGEST).read_text(encoding="utf-8").strip() != digest(name):
        raise ModelError(
            f"the adapters in {trained} were trained beside another model than {name}: put that model into {own}, or "
            "train them again with python -m xlsr_live.training.recipe.multilingual"
        )
    return name


def digest(model: str) -> str:
    """SHA-256 of the weights of a local model."""
    return hashlib.sha256((Path(find_source(model).path) / "model.safetensors").read_bytes()).hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of an adapter in float32."""
    return {name: tensor.float() for name, tensor in _torch_files.load_file(path).items()}


def keep(model: str, trained: Mapping[str, Path], folder: Path) -> None:
    """Write only the adapters, in float16, with their letters and calibrations: from the checkpoints in which each was
    trained. English has the calibration of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    letters: dict[str, dict[str, int]] = {}
    for language, checkpoint in trained.items():
        letters[language] = json.loads((checkpoint / "vocab.json").read_text(encoding="utf-8"))[language]
        half = {name: x.half() for name, x in read(checkpoint / ADAPTER.format(language)).items()}
        _torch_files.save_file(half, folder / ADAPTER.format(language), metadata={"format": "pt"})
    text = json.dumps(letters, ensure_ascii=False, sort_keys=True)
    (folder / "vocab.json").write_text(text + "\n", encoding="utf-8")
    (folder / DIGEST).write_text(digest(model) + "\n", encoding="utf-8")
    for language, checkpoint in {ENGLISH: Path(find_source(model).path), **trained}.items():
        if (checkpoint / FILE).exists():
            own = folder / CALIBRATIONS / language
            own.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoint / FILE, own / FILE)


def _widened(model: str) -> tuple[Any, dict[str, int]]:
    """The English model with adapters that are the identity, and its vocabulary."""
    source = Path(find_source(model).path)
    config = _Config.from_pretrained(source)
    config.adapter_attn_dim = WIDTH
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()  # the adapters are new
    network = _Model.from_pretrained(source, config=config, use_safetensors=True, dtype=torch.float32)
    for layer in network.wav2vec2.encoder.layers:
        _reset(layer.adapter_layer)
    return network, json.loads((source / "vocab.json").read_text(encoding="utf-8"))


@torch.no_grad()
def _reset(adapter: Any) -> None:
    """No output: with the residual connection around it, the identity."""
    for parameter in adapter.parameters():
        parameter.zero_()
    adapter.norm.weight.fill_(1)


def _first_adapter(english: Any, vocabulary: Mapping[str, int], tokens: Sequence[str]) -> dict[str, Tensor]:
    rows = [vocabulary[token if token in SPECIAL else _unmarked(token).upper()] for token in tokens]
    adapter = _tensors(english)
    for name in adapter:
        if name.endswith("linear_1.weight"):  # a way in for gradients, while the way out is still zero
            adapter[name].normal_(std=adapter[name].shape[1] ** -0.5)
    for name in ("lm_head.weight", "lm_head.bias"):
        adapter[name] = adapter[name][rows].contiguous()
    return adapter


def _tensors(model: Any) -> dict[str, Tensor]:
    """Copies of its adapters and head, by the names in an adapter's file."""
    return {name: tensor.detach().clone() for name, tensor in model._get_adapters().items()}


def _unmarked(letter: str) -> str:
    return _UNMARKED.get(letter) or unicodedata.normalize("NFD", letter)[0]


def _write(
    english: Any,
    vocabulary: Mapping[str, int],
    adapters: Mapping[str, Mapping[str, Tensor]],
    vocabularies: Mapping[str, Sequence[str]],
    folder: Path,
) -> None:
    """The published layout: the model with the default language's adapters inside, a file for each language, and a
    vocabulary for each."""
    folder.mkdir(parents=True, exist_ok=True)
    english.save_pretrained(folder)
    for language, tensors in ({ENGLISH: _tensors(english)} | dict(adapters)).items():
        kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
        _torch_files.save_file(kept, folder / ADAPTER.format(language), metadata={"format": "pt"})
    nested = {ENGLISH: dict(vocabulary)} | {
        language: {token: index for index, token in enumerate(tokens)} for language, tokens in vocabularies.items()
    }
    path = folder / "vocab.json"
    path.write_text(json.dumps(nested, ensure_ascii=False) + "\n", encoding="utf-8")
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL[:4], strict=True))
    _Tokenizer(str(path), word_delimiter_token="|", target_lang=ENGLISH, **special).save_pretrained(folder)
    # The layer norm after the first kernels removes the level.
    _Extractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
