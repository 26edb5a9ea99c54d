"""Where a checkpoint comes from: the package, a directory in Hugging Face's layout, or a name on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ModelError
from ..known_models import known_models, similar_names
from . import hub

BUNDLED: Final = Path(__file__).parents[1] / "bundled"
SAFE: Final = ("model.safetensors", "model.safetensors.index.json")
PICKLED: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json")

_NEEDED: Final = {
    "config.json": ("config.json",),
    "vocab.json": ("vocab.json", "tokenizer.json"),
    "preprocessor_config.json": ("preprocessor_config.json", "processor_config.json"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint as `from_pretrained` takes it. Without options it is a local directory."""

    name: str
    path: str
    options: dict[str, Any]


def find_source(name: str, revision: str | None = None, *, base: bool = False) -> Source:
    """Locate the checkpoint with that name, which may be a short one (`known_models`). A `base` to train from may lack
    vocabulary and feature extractor. Raises `ModelError`.
    """
    if name == "bundled":
        return Source(name, str(BUNDLED), {})
    path = Path(name).expanduser()
    if name and path.is_dir():
        _check_directory(path, list(_NEEDED)[:1] if base else list(_NEEDED))
        return Source(name, str(path), {})
    if name and path.exists():
        raise ModelError(
            f"{name} is a file; a model is a directory (config.json, model.safetensors, ...) or a hub name"
        )
    if known := known_models().get(name):
        name, revision = known.hub, revision or known.revision
    if name.startswith(("/", ".", "~")) or name.count("/") != 1:
        hint = similar_names(name) if name and not name.startswith(("/", ".", "~")) else ""
        raise ModelError(
            f"{name or 'an empty name'}: no such directory, and not a Hugging Face name (owner/model){hint}"
        )
    # With the hub unreachable, transformers would retry every file; ask only the cache instead.
    local = hub.offline() or hub.problem() is not None
    return Source(name, name, {"local_files_only": local} | ({"revision": revision} if revision else {}))


def _check_directory(path: Path, needed: Sequence[str]) -> None:
    for name in needed:
        if not any((path / choice).is_file() for choice in _NEEDED[name]):
            raise ModelError(f"{path} holds no {name}: not a complete checkpoint in Hugging Face's layout")
    if any((path / file).is_file() for file in SAFE + PICKLED):
        return
    others = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(pattern))
    if others:
        raise ModelError(
            f"{path} holds no {SAFE[0]} and no {PICKLED[0]}; other pickled files ({others[0]}) are never read"
        )
    raise ModelError(f"{path} holds no weights: {SAFE[0]} is missing")
