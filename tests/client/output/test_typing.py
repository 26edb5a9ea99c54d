"""`--type`: the choice of a program, and text in the window that has the focus."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from xlsr_live.client.cli import run
from xlsr_live.client.output.typing import WTYPE, XDOTOOL, YDOTOOL, Typist, commands, typing_program
from xlsr_live.streaming.protocol.events import Final

FIELD = """
import sys, tkinter
from pathlib import Path
root = tkinter.Tk()
field = tkinter.Text(root)
field.pack()
field.bind("<KeyRelease>", lambda _: Path(sys.argv[1]).write_text(field.get("1.0", "end-1c"), encoding="utf-8"))
field.bind("<FocusIn>", lambda _: Path(sys.argv[2]).touch())
field.focus_force()
root.mainloop()
"""


def final(text: str) -> Final:
    return Final(utterance=0, text=text, words=(), start=0, end=1, confidence=1)


@pytest.mark.parametrize(
    ("installed", "environment", "program"),
    [
        ({"wtype", "ydotool", "xdotool"}, {"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"}, WTYPE),
        ({"ydotool", "xdotool"}, {"WAYLAND_DISPLAY": "wayland-0"}, YDOTOOL),
        ({"wtype", "ydotool", "xdotool"}, {"DISPLAY": ":0"}, XDOTOOL),
        ({"ydotool"}, {"DISPLAY": ":0"}, YDOTOOL),
    ],
)
def test_the_program_fits_the_desktop(
    installed: set[str], environment: dict[str, str], program: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "which", lambda name: name if name in installed else None)
    assert typing_program(environment) == program


@pytest.mark.parametrize(
    ("environment", "words"),
    [({}, "needs a desktop"), ({"DISPLAY": ":0"}, "apt install xdotool"), ({"WAYLAND_DISPLAY": "w"}, "install wtype")],
)
def test_a_missing_program_is_named(environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(click.UsageError, match=words):
        typing_program(environment)


def test_mic_checks_it_before_it_opens_the_microphone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run(["mic", "--type"]) == 2
    assert "needs a desktop" in capsys.readouterr().err


def test_finals_reach_the_program_in_order_on_its_standard_input(tmp_path: Path):
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    with Typist((sys.executable, "-S", "-c", code, str(tmp_path / "typed"))) as typist:
        for text in ("One two.", "", "-x $HOME", "ls\nrm x\x1b\n", "\n"):
            typist.show(final(text))
    assert (tmp_path / "typed").read_text() == "One two. -x $HOME ls rm x "


def test_a_program_that_fails_is_reported_once(capsys: pytest.CaptureFixture[str]):
    code = "import sys; print('Compositor does not support it', 'and more', sep='\\n', file=sys.stderr); sys.exit(1)"
    with Typist((sys.executable, "-S", "-c", code)) as typist:
        for _ in range(3):
            typist.show(final("one"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("cannot type: Compositor does not support it")


@pytest.fixture
def display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An X server with no window manager. Its keyboard has all letters of the test: for another one xdotool changes the
    keyboard for some milliseconds, which a busy window misses."""
    pytest.importorskip("tkinter")
    for program in ("Xvfb", "setxkbmap", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"not installed: {program}")
    read, write = os.pipe()
    arguments = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(arguments, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as numbers:
        name = f":{numbers.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    try:
        subprocess.run(["setxkbmap", "-display", name, "de"], check=True)
        yield name
    finally:
        server.terminate()
        server.wait(60)


def test_x11_gets_time_for_the_letters_that_a_keyboard_may_lack():
    slow = ("xdotool", "type", "--delay", "100", "--clearmodifiers", "--file", "-")
    assert commands(XDOTOOL, "In Zürich. ") == [(XDOTOOL, "In Z"), (slow, "ü"), (XDOTOOL, "rich. ")]
    assert commands(XDOTOOL, "В Цюрихе… ") == [(XDOTOOL, "В Цюрихе… ")]
    assert commands(WTYPE, "Zürich ") == [(WTYPE, "Zürich ")]


def test_finals_appear_in_a_text_field(display: str, tmp_path: Path):
    typed, ready = tmp_path / "typed", tmp_path / "ready"
    window = subprocess.Popen([sys.executable, "-c", FIELD, str(typed), str(ready)])
    try:
        wait_for(ready.exists)
        with Typist(typing_program()) as typist:
            typist.show(final("Nine four, Zürich!"))
            typist.show(final("Two."))
        wait_for(lambda: typed.exists() and typed.read_text("utf-8") == "Nine four, Zürich! Two. ")
    finally:
        window.kill()
        window.wait()


@pytest.fixture
def compositor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Wayland desktop without a screen, whose only window writes to the file what is typed into it, line by line."""
    for program in ("sway", "foot", "wtype", "setpriv"):
        if shutil.which(program) is None:
            pytest.skip(f"not installed: {program}")
    with tempfile.TemporaryDirectory() as name:  # sway's user has no access to pytest's folders
        folder = Path(name)
        typed, log = folder / "typed", folder / "log"
        (folder / "config").write_text(f'exec foot --config=/dev/null sh -c "stty -echo; cat > {typed}"')
        command = ["sway", "-c", str(folder / "config")]
        if os.getuid() == 0:  # sway refuses to run as root
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
            os.chown(folder, 65534, 65534)
        headless = {"WLR_BACKENDS": "headless", "WLR_RENDERER": "pixman", "WLR_LIBINPUT_NO_DEVICES": "1"}
        with log.open("w") as messages:
            server = subprocess.Popen(
                command, env=os.environ | headless | {"XDG_RUNTIME_DIR": name}, stdout=messages, stderr=messages
            )
        keyboard = None
        try:
            wait_for(typed.exists)
            (socket,) = (path for path in folder.glob("wayland-*") if path.suffix != ".lock")
            monkeypatch.setenv("XDG_RUNTIME_DIR", name)
            monkeypatch.setenv("WAYLAND_DISPLAY", socket.name)
            # A keyboard that stays: to each new one on a desktop that has none, a window must begin to listen first.
            keyboard = subprocess.Popen([WTYPE[0], "-s", "1000000"])
            wait_for(lambda: press_return() or typed.read_text())
            yield typed
        finally:
            if keyboard:
                keyboard.kill()
                keyboard.wait()
            server.terminate()
            server.wait(60)


def test_finals_appear_in_a_window_of_wayland(compositor: Path):
    texts = ["Nine four, Zürich!", *["Two."] * 5]
    with Typist(typing_program()) as typist:
        for text in texts:
            typist.show(final(text))
    press_return()
    wait_for(lambda: compositor.read_text("utf-8").strip("\n"))
    assert compositor.read_text("utf-8").lstrip("\n") == " ".join(texts) + " \n"


def press_return() -> None:
    subprocess.run([*WTYPE[:3], "-k", "Return"], check=True)


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
