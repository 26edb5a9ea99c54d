"""`python -m training` in a checkout: the recipe of the packaged model, which is not part of an installed package."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec

if __name__ == "__main__":
    if find_spec("xlsr_live.training.recipe") is None:
        sys.exit("the recipe of the packaged model is in the repository only; `xlsr-live finetune` trains your own")
    runpy.run_module("xlsr_live.training.recipe", run_name="__main__", alter_sys=True)
