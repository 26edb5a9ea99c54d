"""Where the tests find the project, its recordings and its trained checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
CLIPS = TESTS / "clips"
DIGITS = TESTS / "models" / "digits"  # trained; the folder holds its licence
# Large recordings, not part of the project. SPEECH holds test.tsv, a table with the columns file, text, set and corpus.
SHARED = Path(os.environ.get("XLSR_LIVE_SHARED", ROOT.parent / "shared"))
SPEECH = Path(os.environ.get("XLSR_LIVE_SPEECH", SHARED / "speech" / "test"))
