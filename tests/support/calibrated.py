"""A calibration whose four curves differ."""

from __future__ import annotations

from xlsr_live.streaming.ctc.calibration import Calibration, Curve

CALIBRATION = Calibration(
    final=Curve(temperature=2.0, level=0.5, offset=-1.0),
    partial=Curve(temperature=3.0, level=0.2),
    beam=Curve(temperature=4.0, offset=-0.5),
    beam_partial=Curve(temperature=5.0, offset=-0.3),
)
