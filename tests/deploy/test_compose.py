"""docker-compose.yml read as text: what every service must have, and that it sets what there is."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings.addresses import names_for
from service.settings.loading import load
from service.settings.sections import HttpSettings
from service.settings.settings import Settings
from service.settings.sources import VARIABLES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
ONE_SHOT = {"topics", "trainer"}
VARIABLE = re.compile(r"\$\{(\w+):?-([^}]*)\}")  # and the value that holds without it


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = SERVICES[request.param]
    return found


def settings_of(service: str, **changed: str) -> Settings:
    """Those of a service, read by itself; it would refuse what does not go together. changed: variables of .env."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in SERVICES[service]["environment"].items():
            environment.setenv(name, VARIABLE.sub(lambda found: changed.get(found[1], found[2]), value))
        return load(None, {})


@pytest.fixture
def http() -> HttpSettings:
    """How the service listens."""
    return settings_of("telltale").http


def test_ports_are_published_on_this_machine_alone(service: dict[str, Any]) -> None:
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_everything_has_a_limit_and_rights_no_further_than_its_work(service: dict[str, Any]) -> None:
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]


def test_images_are_pinned_and_a_container_has_no_name_that_a_second_one_would_want(service: dict[str, Any]) -> None:
    assert re.search(r":v?[0-9]+\.[0-9]+\.[0-9]+$|:local}$", service["image"])
    assert "container_name" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_what_ends_by_itself_is_waited_for_and_the_rest_starts_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    for other, wait in service.get("depends_on", {}).items():
        assert wait["condition"] == ("service_completed_successfully" if other in ONE_SHOT else "service_healthy")


def test_only_the_broker_may_write_beside_its_volumes() -> None:
    assert [name for name, service in SERVICES.items() if not service.get("read_only")] == ["kafka"]


def test_every_setting_of_the_service_is_one_it_knows() -> None:
    set_here = {name for service in SERVICES.values() for name in service.get("environment", {})}
    set_here |= set(re.findall(r"export (TELLTALE_\w+)", TEXT))
    ours = {name for name in set_here if name.startswith("TELLTALE_")}
    assert ours
    assert ours - set(VARIABLES) == set()


def test_the_page_answers_to_no_name_that_another_site_could_let_point_here(http: HttpSettings) -> None:
    assert names_for(http.host, http.names) == frozenset({"localhost", "127.0.0.1"})


def test_metrics_are_where_prometheus_looks_for_them_and_are_not_published(http: HttpSettings) -> None:
    (job,) = (job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "telltale")
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["telltale"]
    assert found["port"] == http.metrics_port
    assert names_for(http.metrics_host, ()) is None  # a worker is scraped by its address
    assert [port.rpartition(":")[2] for port in SERVICES["telltale"]["ports"]] == [str(http.port)]


def test_metrics_of_incidents_are_where_prometheus_and_the_health_check_look_for_them() -> None:
    incidents = settings_of("incidents").incidents
    (job,) = (job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "telltale-incidents")
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["incidents"]
    assert found["port"] == incidents.metrics_port
    assert names_for(incidents.metrics_host, ()) is None
    assert f"127.0.0.1:{incidents.metrics_port}/metrics" in SERVICES["incidents"]["healthcheck"]["test"][-1]


def test_scores_go_from_the_topic_that_workers_write_to_prometheus_where_someone_asks_for_it() -> None:
    named = {"SCORES_TOPIC": "telltale.scores", "SCORES_STREAMS": "line-03/*"}
    sender = settings_of("remote-write", **named)
    assert sender.scores == settings_of("telltale", **named).scores
    assert (sender.scores.topic, sender.scores.streams) == ("telltale.scores", ("line-03/*",))
    assert settings_of("topics", **named).scores.topic == "telltale.scores", "it is made"
    assert settings_of("telltale").scores.topic is None
    assert SERVICES["remote-write"]["profiles"] == ["scores"]
    assert sender.remote_write.url == "http://prometheus:9090/api/v1/write"
    assert any(option.startswith("--web.enable-remote-write-receiver") for option in SERVICES["prometheus"]["command"])
    (job,) = (job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "telltale-remote-write")
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["remote-write"]
    assert found["port"] == sender.remote_write.metrics_port
    assert names_for(sender.remote_write.metrics_host, ()) is None
    assert (
        f"127.0.0.1:{sender.remote_write.metrics_port}/metrics" in SERVICES["remote-write"]["healthcheck"]["test"][-1]
    )


@pytest.mark.parametrize("of", ["anomalies", "incidents"])
def test_worker_and_incidents_agree_on_who_of_them_notifies_people(of: str) -> None:
    sent = [settings_of(service, NOTIFY_OF=of).notifications for service in ("telltale", "incidents")]
    assert sent[0] == sent[1]
    assert sent[0].of == of


def test_env_example_has_every_variable_with_the_value_that_holds_without_it() -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = dict(VARIABLE.findall(TEXT))
    assert used == example


def test_what_is_mounted_from_the_repository_is_there_and_cannot_be_written() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", []) if mount.startswith("./")]
    assert len(mounts) == 6
    for mount in mounts:
        source, _, rest = mount.partition(":")
        assert (ROOT / source).exists(), source
        assert rest.endswith(":ro")
