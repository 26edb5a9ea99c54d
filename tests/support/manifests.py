"""The Kubernetes manifests of docs/deploy/kubernetes, with the patches of a variant applied as kustomize does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT

KUBERNETES = ROOT / "docs" / "deploy" / "kubernetes"
VARIANTS = ("cpu", "gpu")

Manifest = dict[str, Any]


def read(path: Path) -> Manifest:
    return yaml.safe_load(path.read_text())


def manifests(variant: str) -> dict[str, Manifest]:
    """By kind."""
    overlay = read(KUBERNETES / variant / "kustomization.yaml")
    (base,) = (KUBERNETES / variant / name for name in overlay["resources"])
    customization = read(base / "kustomization.yaml")
    found = {one["kind"]: one for one in (read(base / name) for name in customization["resources"])}
    for patch in (read(KUBERNETES / variant / each["path"]) for each in overlay["patches"]):
        found[patch["kind"]] = _merged(found[patch["kind"]], patch)
    images = {one["name"]: f"{one['newName']}:{one['newTag']}" for one in customization["images"]}
    server = container(found)
    server["image"] = images[server["image"]]
    return found


def pod(found: dict[str, Manifest]) -> Manifest:
    """The specification of the Deployment's pods."""
    return found["Deployment"]["spec"]["template"]["spec"]


def container(found: dict[str, Manifest]) -> Manifest:
    (only,) = pod(found)["containers"]
    return only


def variables(found: dict[str, Manifest]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(found)["env"]}


def _merged(base: Any, patch: Any) -> Any:
    """A strategic merge: elements of lists belong together by name, or are replaced as a whole."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: _merged(base[key], value) if key in base else value for key, value in patch.items()}
    if isinstance(base, list) and all(isinstance(each, dict) and "name" in each for each in (*base, *patch)):
        named = {each["name"]: each for each in base}
        for each in patch:
            named[each["name"]] = _merged(named.get(each["name"], {}), each)
        return list(named.values())
    return patch
