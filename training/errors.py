"""The error of fine-tuning."""

from __future__ import annotations

from ..streaming.errors import XlsrLiveError


class TrainingError(XlsrLiveError):
    """The data, the base or the run cannot make a model; the message says why and what to do."""

    code = "bad_training"
