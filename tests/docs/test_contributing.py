"""CONTRIBUTING.md follows a packet through the code: every file and every name in it exists."""

from __future__ import annotations

import ast
import re

from tests.support.paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(r"^\d+\. (?:.+\n?)(?: +.+\n)*", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)`:\s+`([\w.]+)`")


def defined(path: str) -> set[str]:
    """Functions and classes of a module, methods as Class.method."""
    found: set[str] = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return found


def test_every_step_of_the_walk_names_a_function_that_exists():
    steps = STEP.findall(PAGE)
    assert len(steps) >= 12
    for step in steps:
        assert NAMED.search(step), step
        for path, name in NAMED.findall(step):
            assert name in defined(path), f"{path}: {name}"


def test_every_named_file_exists():
    for path in re.findall(r"`((?:streaming|server|client|tests|training|docs|\.ci)/[\w/.]*)`", PAGE):
        assert (ROOT / path).exists(), path
