"""Many messages for every parser: `python tests/fuzz.py --messages 100000 [--coverage] [--only NAME]`.

Not part of the test suite, which has a little of it (`test_fuzz`). Hypothesis makes the messages (`offered`); with
`--coverage` atheris (`pip install atheris`) makes the bytes out of which they are made, and keeps those that reach code
that nothing reached before. Ends with an error at the first thing that is not declared, and shows it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hostile import Server
from hypothesis import HealthCheck, given, settings
from targets import TARGETS, Target


def asked(server: Server, target: Target, told: Counter[str], name: str) -> Callable[[], None]:
    """A test that offers up to a thousand things and counts the messages."""

    @settings(max_examples=1_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(target.offered)
    def some(each: Any) -> None:
        told[name] += target.ask(server, each)

    return some


def plain(messages: int, targets: dict[str, Target]) -> None:
    with Server() as server:
        for name, target in targets.items():
            told = Counter[str]()
            begun = time.process_time()
            some = asked(server, target, told, name)
            while told[name] < messages / len(targets):
                some()
            print(f"{name}: {told[name]} messages, {time.process_time() - begun:.0f} s of CPU time", flush=True)


def covered(messages: int, targets: dict[str, Target]) -> None:
    import atheris

    told = Counter[str]()
    with Server() as server:
        fuzzers = [asked(server, target, told, name).hypothesis.fuzz_one_input for name, target in targets.items()]

        def take(data: bytes) -> None:
            if data:
                fuzzers[data[0] % len(fuzzers)](data[1:])
            if told.total() >= messages:
                print(f"{told.total()} messages: {dict(told)}", flush=True)
                os._exit(0)

        atheris.instrument_all()
        atheris.Setup([sys.argv[0], "-max_len=4096", "-len_control=0"], take)
        atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="in all (default 100000)")
    parser.add_argument("--coverage", action="store_true", help="guided by coverage, with atheris")
    parser.add_argument("--only", action="append", choices=TARGETS, help="this target; may be repeated")
    arguments = parser.parse_args()
    chosen = {name: TARGETS[name] for name in arguments.only or TARGETS}
    (covered if arguments.coverage else plain)(arguments.messages, chosen)
