"""The checkpoints of the stable phase and of decays."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any


def finished(state: dict[str, Any]) -> bool:
    """Return whether the rate of a decay has reached zero."""
    return state.get("done", False) or state["round"] >= state["decay_from"] + state.get("decay", 0)


def set_aside(path: Path) -> Path:
    """Rename a checkpoint and its history to the next free number; return the new path."""
    number = next(n for n in count(1) if not path.with_name(f"{path.stem}-{n}.pt").exists())
    for each in (path.with_suffix(".jsonl"), path):
        if each.exists():
            os.replace(each, each.with_name(f"{path.stem}-{number}{each.suffix}"))
    return path.with_name(f"{path.stem}-{number}.pt")
