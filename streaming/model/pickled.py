"""Checkpoints with `pytorch_model.bin` only, as most community fine-tunes of 2021 to 2023 have it, and `adapter.*.bin`.

torch's restricted loader (`weights_only=True`) reads them: it builds tensors and plain containers and calls nothing
else that the file names. A copy in safetensors goes into the cache, and later starts read that copy.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import torch
from safetensors import torch as safetensors_torch
from torch import Tensor

from ..errors import ModelError
from .source import PICKLED, SAFE, Source

_OLDEST_TORCH: Final = (2, 6)  # before, the restricted loader could be made to run code (CVE-2025-32434)

log = logging.getLogger("xlsr_live.model")


def safe_weights(source: Source) -> str | dict[str, Tensor] | None:
    """The folder of a safetensors copy, or the tensors where it cannot be written. None if the checkpoint itself has
    safetensors. Raises `ModelError`."""
    if any(find_file(source, name) for name in SAFE):
        return None
    files = _pickled_files(source)
    if not files:
        raise ModelError(f"{source.name} has neither {SAFE[0]} nor {PICKLED[0]}: it has no weights that can be read")
    folder = cache_folder() / "weights" / _key(files)
    if (folder / SAFE[0]).is_file():
        return str(folder)
    tensors = read_pickled(source.name, files)
    try:
        _write(tensors, folder)
    except OSError as error:
        log.warning("no safetensors copy of %s (%s): each start reads its pickled weights", source.name, error)
        return tensors
    log.warning("%s has pickled weights only; later starts read the safetensors copy in %s", source.name, folder)
    return str(folder)


def pickled_adapter(source: Source, language: str) -> dict[str, Tensor] | None:
    """The adapter of a language that the checkpoint has in pickled form only, else None. It is small, so it gets no
    copy. Raises `ModelError`."""
    if find_file(source, f"adapter.{language}.safetensors") is not None:
        return None
    file = find_file(source, f"adapter.{language}.bin")
    return None if file is None else read_pickled(source.name, [file])


def reads_pickled() -> bool:
    """Whether this torch has a restricted loader that is safe."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= _OLDEST_TORCH


def cache_folder() -> Path:
    """Where this program keeps files that it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "xlsr-live"


def read_pickled(name: str, files: Sequence[Path]) -> dict[str, Tensor]:
    """All tensors of the files, each with memory of its own. Raises `ModelError`."""
    if not reads_pickled():
        raise ModelError(f"{name}: reading {files[0].name} needs torch 2.6 or later; this is {torch.__version__}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with warnings.catch_warnings(action="ignore"):  # about formats that it refuses or reads anyway
                content: Any = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            log.debug("reading %s", file, exc_info=error)
            raise ModelError(
                f"{name}: {file.name} is damaged or holds more than tensors, which torch's restricted loader refuses; "
                "nothing in it was run"
            ) from error
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
            log.debug("reading %s", file, exc_info=error)
            raise ModelError(f"{name}: {file.name} is damaged or incomplete") from error
        if not isinstance(content, Mapping):
            raise ModelError(f"{name}: {file.name} holds no table of tensors")
        for key, value in cast(Mapping[Any, Any], content).items():
            if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
                raise ModelError(f"{name}: {file.name} holds more than named tensors ({key!r})")
            tensors[key] = value.detach().clone(memory_format=torch.contiguous_format)
    return tensors


def _pickled_files(source: Source) -> list[Path]:
    single, index = PICKLED
    if (path := find_file(source, single)) is not None:
        return [path]
    if (path := find_file(source, index)) is None:
        return []
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{source.name}: {index} is damaged") from error
    files: list[Path] = []
    for name in sorted(map(str, names)):
        shard = None if Path(name).name != name else find_file(source, name)  # only beside the index
        if shard is None:
            raise ModelError(f"{source.name}: {index} names {name}, which is missing")
        files.append(shard)
    return files


def find_file(source: Source, name: str) -> Path | None:
    """A file of the checkpoint, downloaded if need be; None if it has no such file."""
    if not source.options:
        path = Path(source.path) / name
        return path if path.is_file() else None
    import transformers.utils.hub

    cached_file = cast(Any, transformers.utils.hub).cached_file
    found = cached_file(source.path, name, **source.options, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def _key(files: Sequence[Path]) -> str:
    """A name for the content of the files, which changes with it. Cached files of the hub are links to their hash."""
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]


def _write(tensors: dict[str, Tensor], folder: Path) -> None:
    """Whole or not at all, also when two processes write at once."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(suffix=".part", dir=folder)
    os.close(descriptor)
    try:
        cast(Any, safetensors_torch).save_file(tensors, partial, metadata={"format": "pt"})
        os.replace(partial, folder / SAFE[0])
    except BaseException as error:
        Path(partial).unlink(missing_ok=True)
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise OSError(str(error)) from error  # of safetensors, for a full disk
        raise
