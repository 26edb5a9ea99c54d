"""Where the tests find the project, its recordings and its trained checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
CLIPS = TESTS / "clips"
DIGITS = TESTS / "models" / "digits"  # trained; see the licence beside it
SHARED = Path(os.environ.get("XLSR_LIVE_SHARED", ROOT.parent / "shared"))  # large recordings, not part of the project
SPEECH = SHARED / "speech" / "test"
