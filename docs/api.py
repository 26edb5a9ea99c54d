"""Make the API reference from the docstrings: `python docs/api.py [FOLDER]`, in build/api if no folder is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pdoc
from xlsr_live import client, streaming

for package in (streaming, client):
    for name in package.__all__:  # both import their names on first use; pdoc looks only at names that are there
        setattr(package, name, getattr(package, name))
pdoc.render.configure(docformat="google", show_source=False)
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/api")
pdoc.pdoc("xlsr_live.streaming", "xlsr_live.client", output_directory=folder)
print(f"the API reference is in {folder / 'index.html'}")
