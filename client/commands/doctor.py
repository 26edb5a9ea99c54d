"""`xlsr-live doctor`: check the installation and give advice."""

from __future__ import annotations

import platform
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final, NamedTuple

import click

from ...streaming.config import ModelOptions
from ...streaming.errors import XlsrLiveError
from ...streaming.protocol.events import Final as FinalEvent
from ..options.model import load_recognizer
from ..sources.clips import load_clips
from ..sources.devices import choose, input_devices

EPILOG = """\b
Examples:
  xlsr-live doctor
"""
PORT: Final = 8765


class Finding(NamedTuple):
    """One line of the report."""

    state: str  # ok; note: missing but optional; bad: broken
    name: str
    detail: str


@click.command(epilog=EPILOG, short_help="Check this installation.")
def doctor() -> int:
    """Check this installation: packages, GPU, model, microphone, network. Exit status 1 if a check fails."""
    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    broken = 0
    found: dict[str, Finding] = {}
    for check in checks():
        found[check.name] = check
        click.echo(f"{click.style(check.state.ljust(4), fg=colours[check.state])}  {check.name:12} {check.detail}")
        broken += check.state == "bad"
    click.echo(f"\n{broken} checks failed." if broken else "\nEverything works.")
    can, not_yet = abilities(found)
    click.echo(f"You can: {', '.join(can) or 'nothing yet'}." + f" Not yet: {'; '.join(not_yet)}." * bool(not_yet))
    return 1 if broken else 0


def abilities(found: Mapping[str, Finding]) -> tuple[list[str], list[str]]:
    """The commands that work, and the others, each with the first reason against it."""
    extras = {extra: _packages(extra, extra, "note", f"pip install 'xlsr-live[{extra}]'") for extra in ("bench", "mic")}
    local = (found["recognition"], found.get("model"))
    needed = {
        "transcribe": local,
        "serve": local,
        "stream": (found["packages"],),
        "mic": (extras["mic"], found["microphone"], *local),
        "commands": local,
        "bench": (extras["bench"], *local),
    }
    can: list[str] = []
    not_yet: list[str] = []
    for command, findings in needed.items():
        problem = next((each for each in findings if each and each.state != "ok"), None)
        if problem:
            not_yet.append(f"{command} ({problem.detail})")
        else:
            can.append(command)
    return can, not_yet


def checks() -> Iterator[Finding]:
    """Run all checks in order."""
    yield Finding("ok", "xlsr-live", version("xlsr-live"))
    yield Finding("ok", "Python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield _packages("packages", "", "bad", "pip install xlsr-live")
    install = "pip install 'xlsr-live[server]' (a client of a server does not need it)"
    yield (recognition := _packages("recognition", "server", "note", install))
    if recognition.state == "ok":
        yield _guarded("GPU", _gpu)
        yield _guarded("checkpoints", _checkpoints)
        yield _guarded("model", _model)
    yield _guarded("microphone", _microphone)
    yield _guarded("network", _hub)
    yield _port()


def _packages(name: str, extra: str, otherwise: str, install: str) -> Finding:
    """The packages of an extra of the installed distribution; with an empty name, the required packages."""
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
        return Finding(otherwise, name, f"missing {', '.join(missing)}: {install}")
    return Finding("ok", name, ", ".join(found))


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Run a check. An unexpected exception counts as a failure; the other checks still run."""
    try:
        return check()
    except XlsrLiveError as error:
        return Finding("note" if name == "microphone" else "bad", name, str(error))
    except Exception as error:
        return Finding("bad", name, f"{type(error).__name__}: {error}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
        name = torch.cuda.get_device_name()
        return Finding("ok", "GPU", f"{name}, {free:.0f} of {total:.0f} GiB free, CUDA {torch.version.cuda}")
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    return Finding("note", "GPU", f"none (this torch is built {built}); {torch.get_num_threads()} CPU threads")


def _checkpoints() -> Finding:
    import torch

    from ...streaming.model.pickled import reads_pickled

    if reads_pickled():
        return Finding("ok", "checkpoints", "model.safetensors; pytorch_model.bin by torch's restricted loader")
    return Finding(
        "note", "checkpoints", f"model.safetensors; pytorch_model.bin needs torch 2.6, not {torch.__version__}"
    )


def _model() -> Finding:
    from ...streaming.audio.files import open_audio

    clip = load_clips()[0]
    begun = time.monotonic()
    with load_recognizer(ModelOptions()) as recognizer:
        loaded = time.monotonic()
        text = " ".join(event.text for event in recognizer.stream(clip.path) if isinstance(event, FinalEvent))
        took = time.monotonic() - loaded
        detail = f"{recognizer.info.name} on {recognizer.info.device} loads in {loaded - begun:.1f} s"
    if not text:
        return Finding("bad", "model", f"{detail} and returns no text for {clip.text!r}")
    speed = open_audio(clip.path).seconds / took
    result = f"recognizes {text!r} (spoken: {clip.text!r}), {speed:.1f} times as fast as speech"
    return Finding("ok", "model", f"{detail} and {result}")


def _microphone() -> Finding:
    device = choose(input_devices(), None)
    return Finding("ok", "microphone", f"{device.index} {device.name} ({device.host})")


def _hub() -> Finding:
    from ...streaming.model import hub

    if hub.offline():
        return Finding("note", "network", "HF_HUB_OFFLINE is set: only models on this machine can be used")
    if problem := hub.problem():
        only = "only the packaged model and downloaded ones work"
        return Finding("note", "network", f"{hub.address()} cannot be reached ({problem}): {only}")
    return Finding("ok", "network", f"{hub.address()} can be reached")


def _port() -> Finding:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            other = "another xlsr-live serve? To use another port: xlsr-live serve --port 8766"
            return Finding("note", "port", f"{PORT} is in use; {other}")
    return Finding("ok", "port", f"{PORT} is free for xlsr-live serve")
