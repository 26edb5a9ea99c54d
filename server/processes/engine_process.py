"""The engine process: loads the model, measures how many sessions it carries, and serves it to the fronts."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

from msgspec.structs import replace

from ...streaming.ctc.assets import Assets
from ...streaming.errors import EngineError
from ...streaming.recognizer import Recognizer
from ..logs import configure_logging
from ..models.candidate import Load
from ..models.capacity import capacity, warn_if_crowded
from ..models.memory import gpu_memory
from ..models.watchdog import INTERVAL_S, Watchdog
from ..settings import ServerSettings
from .engine_host import EngineHost, wait_for_fronts
from .remote_model import describe

logger = logging.getLogger("xlsr_live.server")

LINGER_S: Final = 15.0  # longer than `grace_s`, for fronts that finish although nobody supervises them


def run_engine(
    settings: ServerSettings, load: Load, prepare: Callable[[], None], address: str, control: Connection
) -> None:
    """The main function of the process. `prepare` runs after the load.

    Sends the supervisor a `ModelDescription`, then None about once a second, as a sign of life; or the error for which
    there is no model. Ends when the supervisor closes `control`, or when the model has failed for good.
    """
    configure_logging(settings)
    try:
        # Fronts punctuate and translate. The language model takes part in the measurement.
        recognizer = load(replace(settings, punctuation_model=None, translators=()))
        prepare()
        limit = settings.max_sessions
        if limit == "auto":
            limit = capacity(recognizer, fronts=settings.fronts)
        warn_if_crowded(limit, recognizer)
    except Exception as error:
        send_error(control, error)
        return
    description = describe(recognizer, limit)
    recognizer.assets = Assets()
    host = EngineHost(
        recognizer.engine,
        recognizer.encoder.languages,
        description,
        address,
        memory=partial(gpu_memory, recognizer.info.device),
    )
    try:
        control.send(description)
        _watch(recognizer, settings, control)
        wait_for_fronts(host, settings.grace_s + LINGER_S)
    finally:
        host.close()
        recognizer.close(timeout=0)


def send_error(control: Connection, error: Exception) -> None:
    """Tell the supervisor why this process cannot start."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = EngineError(f"{type(error).__name__}: {error}")
    control.send(error)


def _watch(recognizer: Recognizer, settings: ServerSettings, control: Connection) -> None:
    """Until the supervisor closes `control`. Exits with an error when the model has failed for good."""
    watchdog = Watchdog(recognizer.engine, settings.stall_s)
    while not control.poll(INTERVAL_S):
        watchdog.check()
        control.send(None)
        if not recognizer.engine.alive:
            logger.error("the model has failed permanently")
            sys.exit(1)
