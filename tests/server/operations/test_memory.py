"""What broken sessions leave in cycles is collected soon, however much there is beside it."""

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
kept = []

def others():  # come and go, each with a thousand objects for a while
    global kept
    for _ in range(200):
        kept = [[number] for number in range(1000)] + kept[:1000]

session = Session()
gone = weakref.ref(session)
others()  # it gets old
session = None
others()
print(gone() is None)
"""


@pytest.mark.parametrize(("how", "collected"), [("frozen", "True"), ("not", "False")])
def test_a_cycle_is_collected_soon_once_frozen(how: str, collected: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == collected
