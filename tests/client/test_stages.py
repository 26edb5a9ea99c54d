"""The stages of a start, as people read them."""

from __future__ import annotations

from xlsr_live.client.stages import Stages
from xlsr_live.streaming.progress import Progress


def test_a_download_shows_megabytes_and_the_time_left_at_its_speed():
    shown: list[str] = []
    time = 0.0
    stages = Stages(shown.append, lambda: time)
    total = 1_262_000_000
    for time, done in ((0.0, 12_000_000), (1.0, 50_000_000), (100.0, 412_000_000), (200.0, total)):  # noqa: B007
        stages(Progress("downloading", "large", done, total))
    stages(Progress("loading", "large"))
    stages(Progress("warming up", "large"))
    assert shown == [
        "downloading large: 12 of 1,262 MB",
        "downloading large: 50 of 1,262 MB",
        "downloading large: 412 of 1,262 MB, 3:32 left",
        "downloading large: 1,262 of 1,262 MB, 0:00 left",
        "loading the model (large)",
        "warming up (large)",
    ]
