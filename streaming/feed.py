"""Feeds a file to a session."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from .config import AudioFormat
from .driver import Call, SessionDriver
from .protocol.events import Event

_IN_FLIGHT = 8  # unanswered jobs of one file


def feed(
    driver: SessionDriver,
    answers: SimpleQueue[Call],
    form: AudioFormat,
    blocks: Iterator[NDArray[np.floating]],
    pace: float,
) -> Iterator[Event]:
    """Feed blocks of audio to a session, at a pace or as fast as the engine allows; yield its events."""
    session = driver.session
    started, fed = time.monotonic(), 0
    yield from driver.pump()
    for block in blocks:
        fed += len(block)
        while pace > 0 and (early := started + fed / form.sample_rate / pace - time.monotonic()) > 0:
            _wait(driver, answers, early)
            yield from driver.pump()
        while driver.unanswered >= _IN_FLIGHT or driver.congested or not session.can_take(block):
            _wait(driver, answers)
            yield from driver.pump()
        driver.receive_audio(block)
        yield from driver.pump()
    session.receive_eof(time.monotonic())
    yield from driver.pump()
    ended = time.monotonic()
    while not driver.ended:
        if (wait := driver.ends_within_s) is None or wait == float("inf"):
            _wait(driver, answers)
        elif (left := ended + wait - time.monotonic()) > 0:
            _wait(driver, answers, left)
        else:
            driver.give_up()
        yield from driver.pump()


def _wait(driver: SessionDriver, answers: SimpleQueue[Call], timeout: float | None = None) -> None:
    """Wait at most `timeout` seconds for an answer, then pass on all that have arrived."""
    if timeout is None and not driver.pending:
        raise RuntimeError("the session waits although all of its jobs are answered")
    with suppress(Empty):
        answers.get(timeout=timeout)()
        while True:
            answers.get_nowait()()
