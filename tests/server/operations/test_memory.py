"""Cycles of aborted sessions are collected soon, however large the model is."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys, weakref
from xlsr_live.server.operations.memory import freeze_loaded

class Session:
    def __init__(self):
        self.me = self

model = [[number] for number in range(400_000)]
freeze_loaded() if sys.argv[1] == "frozen" else gc.collect()
alive = []

def others():  # short-lived objects, a thousand at a time
    global alive
    for _ in range(200):
        alive = [[number] for number in range(1000)] + alive[:1000]

session = Session()
gone = weakref.ref(session)
others()  # the session becomes old
session = None
others()
print(gone() is None)
"""


@pytest.mark.parametrize(("how", "collected"), [("frozen", "True"), ("not", "False")])
def test_a_cycle_is_collected_soon_once_frozen(how: str, collected: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == collected
