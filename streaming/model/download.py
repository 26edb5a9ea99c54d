"""Downloading a checkpoint from the Hugging Face hub with a report of its progress, into the hub's own cache."""

from __future__ import annotations

import fnmatch
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from ..progress import Progress, Report
from .source import Source

# Without adapters, which load when a language needs them. Pickled weights only where there are no others.
_SMALL: Final = ("*.json", "*.txt", "*.model", "language_model/*")
_WEIGHTS: Final = (("model*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin", "*.bin.index.json"))

log = logging.getLogger("xlsr_live.model")


def download(source: Source, report: Report) -> Path | None:
    """The checkpoint's folder, with what the cache lacked. None if it cannot be had: transformers then says why.

    Adapters of a multilingual checkpoint are not fetched.
    """
    if not source.options:
        return Path(source.path)
    import huggingface_hub

    hub = cast(Any, huggingface_hub)
    revision: str | None = source.options.get("revision")
    try:
        if not source.options.get("local_files_only"):
            _fetch(hub, source, revision, report)
    except Exception as error:  # also those of the hub's HTTP library, which have no public base
        log.debug("downloading %s", source.name, exc_info=error)
        return None
    config = hub.try_to_load_from_cache(source.path, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def _fetch(hub: Any, source: Source, revision: str | None, report: Report) -> None:
    about = hub.HfApi().model_info(source.path, revision=revision, files_metadata=True)
    files: dict[str, int] = {each.rfilename: each.size or 0 for each in about.siblings}
    missing = [
        name
        for name in _needed(list(files))
        if not isinstance(hub.try_to_load_from_cache(source.path, name, revision=about.sha), str)
    ]
    if not missing:
        return
    meter = _Meter(source.name, sum(files[name] for name in missing), report)
    for name in missing:
        hub.hf_hub_download(source.path, name, revision=revision, tqdm_class=meter.bar())
        meter.finish(files[name])


def _needed(names: Sequence[str]) -> list[str]:
    """The files that loading reads, small ones first."""
    names = [name for name in names if "/" not in name or name.startswith("language_model/")]
    safe, pickled = (_matching(names, patterns) for patterns in _WEIGHTS)
    weights = safe or pickled
    small = [name for name in _matching(names, _SMALL) if not name.endswith(".bin.index.json") and name not in weights]
    return small + weights


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


class _Meter:
    """Adds up the bytes of files that arrive one after the other."""

    def __init__(self, model: str, total: int, report: Report) -> None:
        self._model, self._total, self._report = model, total, report
        self._before = 0  # bytes of finished files
        self._lock = threading.Lock()
        self._file = 0
        self._show()

    def bar(self) -> type[Any]:
        """A class that the hub's library takes for a `tqdm` of one file."""
        from tqdm import tqdm

        meter, base = self, cast(Any, tqdm)

        class Bar(base):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options | {"disable": True})
                meter.add(options.get("initial") or 0)

            def update(self, n: float | None = 1) -> bool | None:
                meter.add(int(n or 0))
                return None

        return Bar

    def add(self, count: int) -> None:
        with self._lock:  # the library may download parts in threads
            self._file += count
        self._show()

    def finish(self, size: int) -> None:
        with self._lock:
            self._before, self._file = self._before + size, 0
        self._show()

    def _show(self) -> None:
        self._report(Progress("downloading", self._model, min(self._before + self._file, self._total), self._total))
