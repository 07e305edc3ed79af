"""The Helm chart: what it renders is valid, agrees with itself, and sets what the service knows."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings.loading import load
from service.settings.sources import CONFIG_VARIABLE, VARIABLES
from tests.deploy import chart
from tests.deploy.chart import NoGo, NoTools, complaints, render
from tests.prometheus import program

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1_800)]  # the first time, helm is compiled

EVERYTHING: dict[str, object] = {
    "secrets__sasl__existingSecret": "login",
    "secrets__http__existingSecret": "page",
    "secrets__tls": {"existingSecret": "tls", "caKey": "ca.crt", "certKey": "tls.crt", "keyKey": "tls.key"},
    "checkpoint__train__enabled": True,
    "demo__enabled": True,
    "incidents__enabled": True,
    "remoteWrite__enabled": True,
    "serviceMonitor__enabled": True,
    "prometheusRule__enabled": True,
    "autoscaling__enabled": True,
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}], "egress": [{"ports": [{"port": 9443}]}]},
    "image__pullSecrets": [{"name": "registry"}],
    "tolerations": [{"operator": "Exists"}],
    "podAnnotations": {"team": "plant"},
    "podLabels": {"team": "plant"},
}
VARIANTS: dict[str, dict[str, object]] = {
    "as it comes": {},
    "everything": EVERYTHING,
    "scaled by an external metric": {"autoscaling": {"enabled": True, "kind": "hpa"}},
    "a claim that is there": {"checkpoint__existingClaim": "models", "topics__create": False},
    "nothing that can be left out": {"podDisruptionBudget__enabled": False, "topics__create": False},
}


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    """Both, or a failure that says why; without a Go that could build them, a skip."""
    try:
        chart.tool("helm")
        chart.tool("kubeconform")
        chart.schemas()
        missing = None
    except NoTools as reason:
        missing = reason
    if isinstance(missing, NoGo):
        pytest.skip(str(missing))
    if missing:
        pytest.fail(str(missing), pytrace=False)


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod templates, by the name of what makes them."""
    for one in objects:
        if "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]


def containers(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for _, pod in pods(objects):
        yield from (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])


def test_helm_lint_has_nothing_to_say() -> None:
    assert "0 chart(s) failed" in chart.lint()


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_and_its_operators_know_every_field_that_is_rendered(variant: str) -> None:
    assert complaints(render(**VARIANTS[variant])) == []


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    objects = render(**EVERYTHING)
    of_kind(objects, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpget"] = {}
    of_kind(objects, "ScaledObject")[0]["spec"]["maxReplicas"] = 8
    of_kind(objects, "ServiceMonitor")[0]["spec"]["endpoints"][0]["interval"] = 15
    found = "\n".join(complaints(objects))
    assert ["httpget" in found, "maxReplicas" in found, "ServiceMonitor" in found] == [True] * 3


def test_every_setting_is_one_that_the_service_knows(tmp_path: Path) -> None:
    objects = render(**EVERYTHING)
    (config,) = of_kind(objects, "ConfigMap")
    file = tmp_path / "telltale.yaml"
    file.write_text(config["data"]["telltale.yaml"])
    assert load(file, {}).kafka.bootstrap_servers == "kafka:9092"
    named = {variable["name"] for one in containers(objects) for variable in one.get("env", [])}
    assert named - {*VARIABLES, CONFIG_VARIABLE} == set()


def test_a_worker_is_known_by_the_name_of_its_pod_and_its_set_by_a_service_without_an_address() -> None:
    objects = render()
    (workers,) = of_kind(objects, "StatefulSet")
    (container,) = workers["spec"]["template"]["spec"]["containers"]
    instance = next(one for one in container["env"] if one["name"] == "TELLTALE_KAFKA__INSTANCE")
    assert instance["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    assert services[workers["spec"]["serviceName"]]["clusterIP"] == "None"


def test_selectors_find_the_workers_and_no_one_else() -> None:
    objects = render(**EVERYTHING)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects)}
    assert len(labels) == 6
    services, budgets = of_kind(objects, "Service"), of_kind(objects, "PodDisruptionBudget")
    selectors = [one["spec"]["selector"] for one in services]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in budgets]
    assert len(selectors) == 3
    for selector in selectors:
        assert [name for name, of_pod in labels.items() if selector.items() <= of_pod.items()] == ["plant-telltale"]
    (monitor,) = of_kind(objects, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert [one["spec"]["clusterIP"] for one in services if wanted <= one["metadata"]["labels"].items()] == ["None"]


@pytest.mark.parametrize(("stage", "section"), [("incidents", "INCIDENTS"), ("remote-write", "REMOTE_WRITE")])
def test_a_stage_is_a_pod_of_its_own_that_is_scraped_where_it_listens_and_can_be_left_out(
    stage: str, section: str
) -> None:
    name, objects = f"plant-telltale-{stage}", render(**EVERYTHING)
    (deployment,) = (one for one in of_kind(objects, "Deployment") if one["metadata"]["name"] == name)
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == [stage]
    values = {one["name"]: one.get("value") for one in container["env"]}
    (port,) = container["ports"]
    assert f"TELLTALE_{section}__METRICS_PORT" in VARIABLES
    assert values[f"TELLTALE_{section}__METRICS_PORT"] == str(port["containerPort"])
    (monitor,) = (one for one in of_kind(objects, "PodMonitor") if one["metadata"]["name"] == name)
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    assert [pod for pod, one in pods(objects) if selector <= one["metadata"]["labels"].items()] == [name]
    assert [one["port"] for one in monitor["spec"]["podMetricsEndpoints"]] == [port["name"]]
    assert name not in dict(pods(render(serviceMonitor__enabled=True)))
    assert of_kind(render(serviceMonitor__enabled=True), "PodMonitor") == []


def test_every_container_may_do_nothing_but_its_work() -> None:
    objects = render(**EVERYTHING)
    for one in containers(objects):
        rights = one["securityContext"]
        assert rights["readOnlyRootFilesystem"]
        assert not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert one["resources"]["limits"]["memory"]
    for _, pod in pods(objects):
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_there_are_never_more_workers_than_partitions() -> None:
    few = {"partitions": 3, "replicas": 2, "autoscaling": {"enabled": True, "maxReplicas": 20}}
    (scaled,) = of_kind(render(**few), "ScaledObject")
    assert scaled["spec"]["maxReplicaCount"] == 3
    (scaled,) = of_kind(render(**{**few, "autoscaling__kind": "hpa"}), "HorizontalPodAutoscaler")
    assert scaled["spec"]["maxReplicas"] == 3
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(partitions=3, replicas=4)
    assert "replicas is 4, more than the 3 partitions" in refused.value.stderr


def test_a_worker_is_added_for_lag_only_where_readings_wait(tmp_path: Path) -> None:
    """Partition 0 is five minutes behind and gets a backlog; partition 1's sensors are late by themselves."""
    (scaled,) = of_kind(render(autoscaling__enabled=True), "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    series = {("lag_records", 0): "0 5000", ("event_time_lag_seconds", 0): "300 300"}
    series |= {("lag_records", 1): "5 5", ("event_time_lag_seconds", 1): "900 900"}
    whose = 'namespace="factory", pod="plant-telltale-{0}", topic="t", partition="{0}"'
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"telltale_{name}{{{whose.format(number)}}}", "values": values}
            for (name, number), values in series.items()
        ],
        "promql_expr_test": [
            {"expr": query, "eval_time": time, "exp_samples": [{"labels": "{}", "value": lag}]}
            for time, lag in (("0m", 0), ("1m", 300))
        ],
    }
    file = tmp_path / "lag.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    command = [program("promtool"), "test", "rules", str(file)]
    assert "SUCCESS" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 3},
        {"config__kafka__sasl_password": "secret"},
        {"config__kafka__instance": "one"},
        {"config__kafka__topics": []},
        {"autoscaling__kind": "vpa"},
        {"checkpoint__file": "../other"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(**wrong)
    assert "values don't meet the specifications of the schema" in refused.value.stderr


def test_the_rules_of_the_cluster_are_those_of_the_compose_file() -> None:
    (rule,) = of_kind(render(prometheusRule__enabled=True), "PrometheusRule")
    folder = chart.ROOT / "deploy" / "prometheus" / "rules"
    groups = [group for file in sorted(folder.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    assert groups
    assert rule["spec"]["groups"] == groups
