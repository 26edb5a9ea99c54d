"""Many messages for every parser: `python -m tests.load.fuzz --messages 100000 [--coverage] [--only NAME]`.

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
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.hostile import Server
    from tests.support.targets import Target


def asked(server: Server, target: Target, told: Counter[str], name: str) -> Callable[[], None]:
    """A test that offers up to a thousand things and counts the messages."""
    from hypothesis import HealthCheck, given, settings

    @settings(max_examples=1_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(target.offered)
    def some(each: Any) -> None:
        told[name] += target.ask(server, each)

    return some


def plain(server: Server, targets: dict[str, Target], messages: int) -> None:
    for name, target in targets.items():
        told = Counter[str]()
        begun = time.process_time()
        some = asked(server, target, told, name)
        while told[name] < messages / len(targets):
            some()
        print(f"{name}: {told[name]} messages, {time.process_time() - begun:.0f} s of CPU time", flush=True)


def covered(server: Server, targets: dict[str, Target], messages: int) -> None:
    import atheris

    told = Counter[str]()
    fuzzers: list[Any] = [asked(server, target, told, name) for name, target in targets.items()]

    def take(data: bytes) -> None:
        if data:
            fuzzers[data[0] % len(fuzzers)].hypothesis.fuzz_one_input(data[1:])
        if told.total() >= messages:
            print(f"{told.total()} messages: {dict(told)}", flush=True)
            os._exit(0)

    atheris.Setup([sys.argv[0], "-max_len=4096", "-len_control=0"], take)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="in all (default 100000)")
    parser.add_argument("--coverage", action="store_true", help="guided by coverage, with atheris")
    parser.add_argument("--only", action="append", metavar="NAME", help="one of the targets; may be repeated")
    arguments = parser.parse_args()
    if arguments.coverage:
        import atheris
    with atheris.instrument_imports(include=["xlsr_live"]) if arguments.coverage else nullcontext():
        from tests.support.hostile import Server
        from tests.support.targets import TARGETS
    chosen = {name: TARGETS[name] for name in arguments.only or TARGETS}
    with Server() as server:
        (covered if arguments.coverage else plain)(server, chosen, arguments.messages)


if __name__ == "__main__":
    main()
