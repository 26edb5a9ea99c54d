"""Ctrl-C on a real terminal: the display stays whole, and the last lines say what was made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyte
from numpy.typing import NDArray
from xlsr_live.server.run import running_server
from xlsr_live.streaming.recognizer import Recognizer

# Takes its standard output as its controlling terminal, so that Ctrl-C there becomes a signal.
CLIENT = """
import fcntl, sys, termios
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
from xlsr_live.client.cli import main
main(sys.argv[1:])
"""


def test_ctrl_c_leaves_whole_lines_and_says_what_was_made(
    recognizer: Recognizer, brief: Callable[[str], NDArray[np.int16]], tmp_path: Path
):
    master, slave = os.openpty()
    modes = termios.tcgetattr(master)
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    seen = b""
    with running_server(recognizer) as server:
        arguments = ["stream", "-", "--url", server.url, "--captions", "talk.vtt"]
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, *arguments],
            stdin=subprocess.PIPE,
            stdout=slave,
            stderr=slave,
            cwd=tmp_path,
            env=os.environ | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)
        assert client.stdin is not None
        client.stdin.write(brief("george").tobytes())  # and no end: the session cannot end before Ctrl-C
        client.stdin.flush()
        while True:
            try:
                new = os.read(master, 1 << 16)
            except OSError:  # the client has ended
                break
            if b"two" in seen + new and b"two" not in seen:
                assert termios.tcgetattr(master)[3] == modes[3] | termios.NOFLSH  # so Ctrl-C drops nothing
                os.write(master, b"\x03")
            seen += new
            stream.feed(new)
        assert client.wait(timeout=60) == 130
        assert termios.tcgetattr(master) == modes
        client.stdin.close()
    os.close(master)
    assert b"^C" in seen
    text, saved, totals, *rest = [line.rstrip() for line in screen.display]
    words = text.split()[1:]
    assert re.fullmatch(r"0:0\d\.\d +One two.*", text)
    assert (saved, rest) == ("saved talk.vtt (1 cue)", [""] * 21)
    assert re.fullmatch(rf"0:0\d of audio, {len(words)} words", totals)
    assert " ".join(words) in (tmp_path / "talk.vtt").read_text()
