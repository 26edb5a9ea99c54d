"""Fuzzes every parser: `python -m tests.load.fuzz --messages 100000 [--coverage] [--only NAME]`.

The test suite runs a short version (`test_fuzz`). Hypothesis makes the messages (`fuzz_inputs`). With `--coverage`,
atheris (`pip install atheris`) makes the bytes that Hypothesis draws from, and keeps those that reach new code. The
program stops at the first undeclared error and shows its input.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.fuzz_server import Server
    from tests.support.fuzz_targets import Target


def fuzzer(server: Server, target: Target, counts: Counter[str], name: str) -> Callable[[], None]:
    """A Hypothesis test that feeds up to a thousand inputs and counts the messages."""
    from hypothesis import HealthCheck, given, settings

    @settings(max_examples=1_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def feed(value: Any) -> None:
        counts[name] += target.feed(server, value)

    return feed


def random_inputs(server: Server, targets: dict[str, Target], messages: int) -> None:
    for name, target in targets.items():
        counts = Counter[str]()
        started = time.process_time()
        feed = fuzzer(server, target, counts, name)
        while counts[name] < messages / len(targets):
            feed()
        print(f"{name}: {counts[name]} messages, {time.process_time() - started:.0f} s of CPU time", flush=True)


def coverage_guided(server: Server, targets: dict[str, Target], messages: int) -> None:
    import atheris

    counts = Counter[str]()
    fuzzers: list[Any] = [fuzzer(server, target, counts, name) for name, target in targets.items()]

    def feed_bytes(data: bytes) -> None:
        if data:
            fuzzers[data[0] % len(fuzzers)].hypothesis.fuzz_one_input(data[1:])
        if counts.total() >= messages:
            print(f"{counts.total()} messages: {dict(counts)}", flush=True)
            os._exit(0)

    atheris.Setup([sys.argv[0], "-max_len=4096", "-len_control=0"], feed_bytes)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="total number (default 100000)")
    parser.add_argument("--coverage", action="store_true", help="guided by coverage, with atheris")
    parser.add_argument("--only", action="append", metavar="NAME", help="one of the targets; repeatable")
    arguments = parser.parse_args()
    if arguments.coverage:
        import atheris
    with atheris.instrument_imports(include=["xlsr_live"]) if arguments.coverage else nullcontext():
        from tests.support.fuzz_server import Server
        from tests.support.fuzz_targets import TARGETS
    chosen = {name: TARGETS[name] for name in arguments.only or TARGETS}
    with Server() as server:
        (coverage_guided if arguments.coverage else random_inputs)(server, chosen, arguments.messages)


if __name__ == "__main__":
    main()
