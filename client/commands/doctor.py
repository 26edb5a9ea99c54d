"""`xlsr-live doctor`: what is installed, what works, and what to do about the rest."""

from __future__ import annotations

import platform
import re
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final, NamedTuple

import click

from ...streaming.config import ModelOptions
from ...streaming.errors import XlsrLiveError
from ...streaming.model import hub
from ...streaming.protocol.events import Final as FinalEvent

EPILOG = """\b
Examples:
  xlsr-live doctor
"""
PORT: Final = 8765


class Check(NamedTuple):
    state: str  # ok; note: works without; bad: broken
    name: str
    detail: str


@click.command(epilog=EPILOG, short_help="Check this installation.")
def doctor() -> int:
    """Check this installation: packages, GPU, model, microphone, network. Exit status 1 if something is broken."""
    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    broken = 0
    for check in checks():
        click.echo(f"{click.style(check.state.ljust(4), fg=colours[check.state])}  {check.name:12} {check.detail}")
        broken += check.state == "bad"
    click.echo("\nEverything that is needed works." if not broken else f"\n{broken} of these must be put right.")
    return 1 if broken else 0


def checks() -> Iterator[Check]:
    """All of them, one after another as they are done."""
    yield Check("ok", "xlsr-live", version("xlsr-live"))
    yield Check("ok", "Python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield _packages("packages", "", "bad", "pip install xlsr-live")
    install = "pip install 'xlsr-live[server]' (a client of a server can do without)"
    yield (recognition := _packages("recognition", "server", "note", install))
    if recognition.state == "ok":
        yield _guarded("GPU", _gpu)
        yield _guarded("model", _model)
    yield _guarded("microphone", _microphone)
    yield _guarded("network", _hub)
    yield _port()


def _packages(name: str, extra: str, otherwise: str, install: str) -> Check:
    """Those of an extra of this package as it is installed; of none if it is empty."""
    found: list[str] = []
    missing: list[str] = []
    for line in requires("xlsr-live") or ():
        requirement, _, marker = line.partition(";")
        if marker.strip() != (f'extra == "{extra}"' if extra else ""):
            continue
        package = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Check(otherwise, name, f"without {', '.join(missing)}: {install}")
    return Check("ok", name, ", ".join(found))


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    """A check that fails in an unforeseen way is a finding, not the end of the list."""
    try:
        return look()
    except XlsrLiveError as error:
        return Check("note" if name == "microphone" else "bad", name, str(error))
    except Exception as error:
        return Check("bad", name, f"{type(error).__name__}: {error}")


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
        name = torch.cuda.get_device_name()
        return Check("ok", "GPU", f"{name}, {free:.0f} of {total:.0f} GiB free, CUDA {torch.version.cuda}")
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    return Check("note", "GPU", f"none (this torch is built {built}); {torch.get_num_threads()} CPU threads")


def _model() -> Check:
    from ...streaming.audio.files import open_audio
    from ..options.model import load_recognizer
    from ..sources.clips import load_clips

    clip = load_clips()[0]
    begun = time.monotonic()
    with load_recognizer(ModelOptions(lm="none")) as recognizer:
        loaded = time.monotonic()
        heard = " ".join(event.text for event in recognizer.stream(clip.path) if isinstance(event, FinalEvent))
        took = time.monotonic() - loaded
        detail = f"{recognizer.info.name} on {recognizer.info.device} loads in {loaded - begun:.1f} s"
    if not heard:
        return Check("bad", "model", f"{detail} and hears nothing where {clip.text!r} is said")
    speed = open_audio(clip.path).seconds / took
    return Check("ok", "model", f"{detail} and hears {heard!r} ({clip.text!r} is said), at {speed:.0f} times its pace")


def _microphone() -> Check:
    from ..sources.devices import choose, input_devices

    device = choose(input_devices(), None)
    return Check("ok", "microphone", f"{device.index} {device.name} ({device.host})")


def _hub() -> Check:
    if hub.offline():
        return Check("note", "network", "HF_HUB_OFFLINE is set: only models that are on this machine can be used")
    if problem := hub.problem():
        only = "the packaged and downloaded models work, no others"
        return Check("note", "network", f"{hub.address()} cannot be reached ({problem}): {only}")
    return Check("ok", "network", f"{hub.address()} can be reached")


def _port() -> Check:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            return Check("note", "port", f"{PORT} is in use (a server of yours?); another: xlsr-live serve --port 8766")
    return Check("ok", "port", f"{PORT} is free for xlsr-live serve")
