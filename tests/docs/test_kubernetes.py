"""The manifests of docs/deploy/kubernetes: valid, and in agreement with the server, its image and its metrics."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from xlsr_live.server.operations.metrics import PREFIX
from xlsr_live.server.settings import ServerSettings

from tests.docs.test_deploy import DEPLOY, STOPS_IN_S, dockerfile, lines
from tests.support.manifests import KUBERNETES, VARIANTS, Manifest, container, manifests, pod, read, variables
from tests.support.paths import ROOT
from tests.support.serving import get, metrics, serving

DEFAULTS = ServerSettings()
OLDEST = "1.30"  # the first version with the preStop hook `sleep` switched on
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()

in_each_variant = pytest.mark.parametrize("variant", VARIANTS)


@in_each_variant
@pytest.mark.parametrize("version", [OLDEST, "newest"])
def test_every_manifest_has_the_schema_of_kubernetes(variant: str, version: str):
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate, the schemas, is not installed")
    found = manifests(variant)
    kinds = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert set(found) == kinds
    for manifest in found.values():
        schemas.validate(manifest, schemas.latest_version() if version == "newest" else version, strict=True)
    container(found)["livenessprobe"] = {}  # a misspelled field must not pass
    with pytest.raises(schemas.ValidationError):
        schemas.validate(found["Deployment"], OLDEST, strict=True)


@in_each_variant
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has kustomize, is not installed")
def test_kustomize_builds_what_the_other_tests_read(variant: str):
    built = subprocess.run(["kubectl", "kustomize", str(KUBERNETES / variant)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    rendered = {each["kind"]: each for each in yaml.safe_load_all(built.stdout)}
    assert _sorted(rendered) == _sorted(manifests(variant))


def _sorted(value: Any) -> Any:
    """Lists of named elements in the order of their names, which has no meaning."""
    if isinstance(value, dict):
        return {key: _sorted(each) for key, each in value.items()}
    if isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value):
        return sorted(map(_sorted, value), key=lambda each: each["name"])
    return value


@in_each_variant
def test_ports_and_paths_are_those_of_the_server(variant: str):
    found = manifests(variant)
    (port,) = container(found)["ports"]
    (service,) = found["Service"]["spec"]["ports"]
    assert port["containerPort"] == service["port"] == DEFAULTS.port
    assert service["targetPort"] == port["name"]
    probes = {name: container(found)[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert [probe["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    with serving(token="s3cret") as server:  # the kubelet has no token
        assert {get(server, probe["path"]).status_code for probe in probes.values()} == {200}
        with_token = {"authorization": "Bearer s3cret"}
        server.sessions.draining = True
        assert get(server, probes["readinessProbe"]["path"]).status_code == 503
        assert get(server, probes["livenessProbe"]["path"]).status_code == 200
        assert get(server, "/metrics").status_code == 401
        assert get(server, "/metrics", **with_token).status_code == 200


@in_each_variant
def test_the_time_to_stop_is_enough(variant: str):
    found = manifests(variant)
    assert not {"XLSR_LIVE_GRACE_S", "XLSR_LIVE_MOVE_S"} & set(variables(found))  # the defaults hold
    hook = container(found)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert hook + STOPS_IN_S < pod(found)["terminationGracePeriodSeconds"] < 2 * (hook + STOPS_IN_S)
    probe = container(found)["readinessProbe"]
    assert hook > probe["periodSeconds"] * probe["failureThreshold"]
    assert 0 < DEFAULTS.move_s <= DEFAULTS.grace_s / 2


@in_each_variant
def test_the_container_is_the_image_and_has_no_rights(variant: str):
    found = manifests(variant)
    spec, server = pod(found), container(found)
    assert spec["enableServiceLinks"] is False  # the service's name would define variables of the server
    (user,) = re.findall(r"useradd .*--uid (\d+)", " ".join(dockerfile("RUN")))
    assert spec["securityContext"]["runAsUser"] == int(user)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert server["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {each["name"]: each["mountPath"] for each in server["volumeMounts"]}
    assert set(mounts) == {each["name"] for each in spec["volumes"]}
    assert {mounts["cache"], mounts["tmp"]} == {*dockerfile("VOLUME"), "/tmp"}
    assert variables(found)["XLSR_LIVE_TOKEN_FILE"] == f"{mounts['token']}/token"
    (secret,) = (each["secret"]["secretName"] for each in spec["volumes"] if each["name"] == "token")
    assert f"kubectl create secret generic {secret} --from-literal=token=" in PAGE
    assert server["image"].partition(":")[0] == "registry.example.org/xlsr-live"


def test_the_variants_differ_in_device_and_resources():
    cpu, gpu = (manifests(variant) for variant in VARIANTS)
    assert (variables(cpu)["XLSR_LIVE_DEVICE"], variables(gpu)["XLSR_LIVE_DEVICE"]) == ("cpu", "cuda")
    resources = container(cpu)["resources"]
    assert resources["requests"] == resources["limits"]  # the capacity is measured for what is always there
    assert container(gpu)["resources"]["limits"]["nvidia.com/gpu"] == 1
    for found in (cpu, gpu):
        assert {"cpu", "memory"} <= set(container(found)["resources"]["requests"])


@in_each_variant
def test_selectors_find_the_pods(variant: str):
    found = manifests(variant)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (spread,) = pod(found)["topologySpreadConstraints"]
    selectors = [found[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert [found["Service"]["spec"]["selector"], spread["labelSelector"]["matchLabels"], *selectors] == 4 * [labels]
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", found["Deployment"]["metadata"]["name"])
    assert "replicas" not in found["Deployment"]["spec"]


def test_the_autoscaler_reads_a_metric_of_the_server():
    (rule,) = read(KUBERNETES / "monitoring" / "adapter.yaml")["rules"]["custom"]
    (metric,) = manifests("cpu")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    used = set(re.findall(rf"\b{PREFIX}\w+", rule["seriesQuery"] + rule["metricsQuery"]))
    with serving() as server:
        assert used == {"xlsr_live_sessions_open", "xlsr_live_sessions_limit"} <= set(metrics(server))


def test_fewer_replicas_than_the_autoscaler_keeps_can_take_the_sessions_of_one():
    spec = manifests("cpu")["HorizontalPodAutoscaler"]["spec"]
    target = float(spec["metrics"][0]["pods"]["target"]["averageValue"].removesuffix("m")) / 1000
    assert target * spec["minReplicas"] / (spec["minReplicas"] - 1) < 1


def test_prometheus_finds_the_pods_with_the_labels_of_the_adapter():
    (job,) = read(KUBERNETES / "monitoring" / "prometheus.yaml")["scrape_configs"]
    found = manifests("cpu")
    keep, *labels = job["relabel_configs"]
    (name,) = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    sources = [f"__meta_kubernetes_pod_label_{re.sub('[./-]', '_', name)}", "__meta_kubernetes_pod_container_port_name"]
    assert keep["source_labels"] == sources
    values = next(iter(_pod_labels(found).values())), container(found)["ports"][0]["name"]
    assert re.fullmatch(keep["regex"], ";".join(values))
    (rule,) = read(KUBERNETES / "monitoring" / "adapter.yaml")["rules"]["custom"]
    assert {each["target_label"] for each in labels} == set(rule["resources"]["overrides"])
    assert job["authorization"]["credentials_file"] == variables(found)["XLSR_LIVE_TOKEN_FILE"]


def _pod_labels(found: dict[str, Manifest]) -> dict[str, str]:
    return found["Deployment"]["spec"]["template"]["metadata"]["labels"]


def test_the_page_names_existing_files():
    for path in re.findall(r"docs/deploy/kubernetes/[\w/.-]+", PAGE):
        assert (ROOT / path).exists(), path
    assert f"Kubernetes {OLDEST}" in PAGE
    assert lines("Dockerfile")
    assert DEPLOY in KUBERNETES.parents
