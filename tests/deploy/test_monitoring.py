"""Rules, dashboards, runbook and exporter: that each knows the others. What Prometheus' own tools say of them."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric

from docs.generated import everything_exported
from service.live.metrics import FORMER_NAMES
from tests.prometheus import DEPLOY, program

ROOT = DEPLOY.parent
RULES = {
    name: yaml.safe_load((DEPLOY / f"prometheus/rules/{name}.yml").read_text()) for name in ("alerts", "recording")
}
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in RULES["alerts"]["groups"] for rule in group["rules"]
}
RECORDED: dict[str, str] = {
    rule["record"]: rule["expr"] for group in RULES["recording"]["groups"] for rule in group["rules"]
}
RULE_TESTS = yaml.safe_load((DEPLOY / "prometheus/tests/alerts.yml").read_text())
BOARDS = {file.stem: json.loads(file.read_text()) for file in (DEPLOY / "grafana/dashboards").glob("*.json")}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
MONITORING = (ROOT / "docs/monitoring.md").read_text()
NAME = re.compile(r"(?<![\w:])(?:job\w*:[\w:]+|telltale_\w+|process_\w+)")
PARTS = ("_bucket", "_sum", "_count")  # of a histogram


def exported() -> list[Metric]:
    return list(everything_exported().collect())


SAMPLES = {sample.name for family in exported() for sample in family.samples}
OURS = {
    sample.name.removesuffix("_bucket")
    for family in exported()
    if family.name.startswith("telltale_")
    for sample in family.samples
    if not sample.name.endswith(("_sum", "_count"))
}


def asked_for() -> Iterator[tuple[str, str]]:
    """(where, expression)."""
    for name, rule in ALERTS.items():
        yield name, rule["expr"]
    yield from RECORDED.items()
    for name, panel in PANELS:
        for target in panel.get("targets", ()):
            yield f"{name}: {panel['title']}", target["expr"]
    for name, board in BOARDS.items():
        for annotation in board["annotations"]["list"]:
            yield f"{name}: {annotation['name']}", annotation["expr"]
        for variable in board["templating"]["list"]:
            yield f"{name}: {variable['name']}", variable.get("definition", "")


def says(*command: object) -> str:
    """What a program of Prometheus' prints; a failure where it is not content."""
    ran = subprocess.run(
        [program(str(command[0])), *map(str, command[1:])], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.programs
def test_prometheus_takes_its_configuration_and_its_rules() -> None:
    said = says("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert "2 rule files found" in said
    assert f"{len(ALERTS)} rules found" in said


@pytest.mark.programs
def test_alertmanager_takes_its_configuration() -> None:
    assert "SUCCESS" in says("amtool", "check-config", DEPLOY / "alertmanager/alertmanager.yml")


@pytest.mark.programs
def test_the_rule_tests_hold() -> None:
    assert "SUCCESS" in says("promtool", "test", "rules", DEPLOY / "prometheus/tests/alerts.yml")


@pytest.mark.programs
@pytest.mark.parametrize("name", ["plant", "stages"])
def test_the_annotation_of_incidents_has_a_point_where_one_opened_and_nowhere_else(name: str, tmp_path: Path) -> None:
    (asked,) = (one["expr"] for one in BOARDS[name]["annotations"]["list"] if one["name"] == "Incident")
    opened = 'telltale_incident_events_total{job="telltale-incidents",instance="a:9465",change="opened"}'
    updated = opened.replace('"opened"', '"updated"')
    points = [("4m", []), ("5m", [{"labels": "{}", "value": 2}]), ("6m", [])]
    test = {
        "interval": "30s",
        "input_series": [{"series": opened, "values": "0x8 0 2x10"}, {"series": updated, "values": "0+3x20"}],
        "promql_expr_test": [
            {"expr": asked.replace("$__interval", "1m"), "eval_time": time, "exp_samples": samples}
            for time, samples in points
        ],
    }
    file = tmp_path / "annotation.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    assert "SUCCESS" in says("promtool", "test", "rules", file)


@pytest.mark.programs
def test_a_rule_test_that_is_wrong_is_told_of(tmp_path: Path) -> None:
    """The same tests with every alert expected at another time must fail: they can."""
    wrong = json.loads(json.dumps(RULE_TESTS))
    wrong["rule_files"] = [str(DEPLOY / f"prometheus/rules/{name}.yml") for name in RULES]
    for test in wrong["tests"]:
        quiet, fires = test["alert_rule_test"]
        quiet["eval_time"], fires["eval_time"] = fires["eval_time"], quiet["eval_time"]
    (tmp_path / "wrong.yml").write_text(yaml.safe_dump(wrong))
    command = [program("promtool"), "test", "rules", str(tmp_path / "wrong.yml")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert set(re.findall(r"alertname: (\w+), time", ran.stdout + ran.stderr)) == set(ALERTS)


def test_each_alert_is_tested_to_be_quiet_first_and_then_to_fire() -> None:
    tested = {}
    for test in RULE_TESTS["tests"]:
        quiet, fires = test["alert_rule_test"]
        assert quiet["alertname"] == fires["alertname"]
        assert "exp_alerts" not in quiet
        assert fires["exp_alerts"]
        tested[fires["alertname"]] = fires
    assert set(tested) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_what_it_is_how_bad_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{alert.lower()}"


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_an_entry_in_the_runbook_with_what_to_do(alert: str) -> None:
    entry = re.search(rf"^### {alert}\n(.*?)(?=^#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert entry, f"docs/runbook.md has no heading ### {alert}"
    for part in ("**It means**", "**Look first**", "**Do**"):
        assert part in entry[1]


def test_the_runbook_has_no_entry_for_an_alert_that_is_none() -> None:
    assert set(re.findall(r"^### (Telltale\w+)$", RUNBOOK, re.MULTILINE)) == {*ALERTS, "TelltaleAnomaly"}


@pytest.mark.parametrize(("where", "expression"), list(asked_for()))
def test_every_metric_that_is_asked_for_is_exported_or_recorded(where: str, expression: str) -> None:
    assert set(NAME.findall(expression)) <= SAMPLES | set(RECORDED), where


@pytest.mark.parametrize(("where", "expression"), list(asked_for()))
def test_no_rule_or_dashboard_asks_for_a_former_name(where: str, expression: str) -> None:
    former = {name for old in FORMER_NAMES.values() for name in (old, f"{old}_total")}
    assert not set(NAME.findall(expression)) & former, where


def test_every_metric_is_in_the_documentation_and_no_other() -> None:
    table = MONITORING.partition("## Metrics")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(telltale_\w+)", table)) == OURS


def test_every_recorded_series_is_asked_for() -> None:
    """Or it would be written for no one."""
    used = {name for where, expression in asked_for() if where not in RECORDED for name in NAME.findall(expression)}
    documented = set(re.findall(r"`(job[\w:]+)`", MONITORING))
    assert set(RECORDED) <= used | documented


def test_dashboards_ask_the_data_source_that_is_provided() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert {board["uid"] for board in BOARDS.values()} == {"telltale-plant", "telltale-service", "telltale-stages"}
    for board in BOARDS.values():
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        assert variables["datasource"]["current"]["value"] == source["uid"]
    for _, panel in PANELS:
        for one in (panel, *panel.get("targets", ())):
            assert one.get("datasource", {"uid": "${datasource}"})["uid"] == "${datasource}"


def test_panels_have_titles_and_descriptions_and_lie_side_by_side() -> None:
    for name, board in BOARDS.items():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{name}: {panel['title']}"
            assert max(x for x, _ in cells) < 24
            taken |= cells
            if panel["type"] not in ("row", "text"):
                assert panel["title"]
                assert panel["description"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_no_stream_is_named_by_a_series_but_where_it_is_asked_for() -> None:
    named = {sample.name for family in exported() for sample in family.samples if "stream" in sample.labels}
    assert named == {"telltale_top_stream_peak_ratio"}


@pytest.mark.programs
def test_prometheus_finds_no_fault_with_names_and_units() -> None:
    exposed = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=generate_latest(everything_exported()),
        capture_output=True,
        check=False,
    )
    assert (exposed.stdout + exposed.stderr).decode() == ""
    assert exposed.returncode == 0
