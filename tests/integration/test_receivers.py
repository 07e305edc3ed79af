"""Incidents to people by Alertmanager's own receivers, as deploy/ sets them up: Slack, Teams, PagerDuty and e-mail.

What they send goes to listeners of the test. Teams needs a newer Alertmanager than Debian's.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.notify.alert_book import AlertBook
from service.notify.delivery import ALERTMANAGER, Receiver, Sender, alerts_url, join_all
from service.notify.incident_alerts import AlertOutbox
from service.notify.links import Links
from service.stages.incidents.changes import SEVERITIES
from tests.deploy.chart import NoGo, tool
from tests.integration.test_end_to_end import wait_until
from tests.prometheus import RECEIVERS, Served, deployed, notifying_alertmanager
from tests.service.mailbox import getting_mail
from tests.service.notify.test_event_feed import Plant
from tests.service.receiver import Listening, listening

pytestmark = pytest.mark.programs  # Alertmanager

LINKS = Links("https://plant-7.example", pictures=True, token="0123456789abcdef")
GROUP = "p/ü"
NEW = ("msteamsv2_configs",)  # what Debian's does not know


@pytest.fixture(scope="module")
def newer() -> tuple[str, str]:
    """Alertmanager and amtool of the version that Compose runs."""
    try:
        return tool("alertmanager"), tool("amtool")
    except NoGo as reason:
        pytest.skip(str(reason))


def on_this_machine(hook: Listening, smarthost: str, folder: Path, without: tuple[str, ...]) -> list[dict[str, Any]]:
    """The receivers of deploy/, with secrets in files of the test and addresses of its listeners."""
    secrets = folder / "secrets"
    secrets.mkdir()
    for name, secret in (
        ("slack-url", f"{hook.url}/slack"),
        ("teams-url", f"{hook.url}/teams"),
        ("pagerduty-key", "k"),
    ):
        (secrets / name).write_text(secret)
    receivers: list[dict[str, Any]] = json.loads(
        json.dumps(RECEIVERS["receivers"]).replace("/etc/alertmanager/secrets", str(secrets))
    )
    for receiver in receivers:
        for kind in [one for one in receiver if one in without]:
            del receiver[kind]
        for one in receiver.get("pagerduty_configs", ()):
            one["url"] = f"{hook.url}/pagerduty"
        for one in receiver.get("email_configs", ()):
            one.update(smarthost=smarthost, require_tls=False)
            del one["auth_username"], one["auth_password_file"]  # a listener without TLS takes none
    return receivers


@contextmanager
def sending(alertmanager: Served, plant: Plant) -> Iterator[AlertBook]:
    """What `telltale incidents` does with what is on its topic."""
    book = AlertBook()
    sender = Sender(Receiver(ALERTMANAGER, alerts_url(alertmanager.url)), book)
    sender.start()
    outbox = AlertOutbox(book, LINKS, SEVERITIES)
    for offset, value in enumerate(plant.topic.values()):
        outbox.put(0, offset, value)
    sender.wake()
    try:
        yield book
    finally:
        join_all([sender], 10.0)


def critical_incident() -> Plant:
    plant = Plant()
    plant.change(f"{GROUP}/pump/s", "opened", 0)
    plant.change(f"{GROUP}/pump/s", "updated", 60, 0, "critical")
    return plant


def links_of(alertmanager: Served) -> tuple[str, str]:
    """The page's and the picture's, as they are in the alert."""
    ((page, picture),) = {(one["annotations"]["page"], one["annotations"]["picture"]) for one in alertmanager.alerts()}
    assert page.startswith("https://plant-7.example/#p%2F%C3%BC%2Fpump%2Fs&at=")
    assert picture.startswith("https://plant-7.example/api/v1/past.png?stream=p%2F%C3%BC%2Fpump%2Fs&around_ms=")
    return page, picture


def posted(hook: Listening, path: str) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in hook.posted if one.path == path]


def test_slack_pagerduty_and_mail_tell_of_an_incident_with_its_picture_and_the_page(tmp_path: Path) -> None:
    with listening() as hook, getting_mail() as mailbox:
        receivers = on_this_machine(hook, mailbox.address, tmp_path, NEW)
        critical = {kind: configs for one in receivers for kind, configs in one.items()} | {"name": "plant-critical"}
        receivers = [{"name": "operators"}, {"name": "plant"}, critical]  # who is on call gets all of them
        with notifying_alertmanager(tmp_path, receivers) as alertmanager, sending(alertmanager, critical_incident()):
            (mail, *_) = mailbox.until_there_are(1)
            wait_until(lambda: bool(posted(hook, "/slack") and posted(hook, "/pagerduty")), "Slack and PagerDuty")
            page, picture = links_of(alertmanager)
            title = f"[firing] critical: {GROUP}: 1 stream anomalous, the first of them {GROUP}/pump/s (prediction)"

            (message,) = posted(hook, "/slack")[0]["attachments"]
            assert (message["title"], message["title_link"], message["image_url"]) == (title, page, picture)
            assert page in message["text"]
            assert posted(hook, "/slack")[0]["channel"] == "#plant"

            event = posted(hook, "/pagerduty")[0]
            assert (event["routing_key"], event["event_action"], event["client_url"]) == ("k", "trigger", page)
            assert (event["payload"]["summary"], event["payload"]["severity"]) == (title, "critical")
            assert [(one["src"], one["href"]) for one in event["images"]] == [(picture, page)]
            assert [one["href"] for one in event["links"]] == [page]

            assert mail["subject"] == title
            html, text = (mail.get_body((kind,)) for kind in ("html", "plain"))
            assert html is not None
            assert text is not None
            assert f'src="{picture}"'.replace("&", "&amp;") in html.get_content()
            assert f'href="{page}"'.replace("&", "&amp;") in html.get_content()
            assert page in text.get_content()


@pytest.mark.thorough
def test_the_receivers_as_deployed_are_taken_by_the_alertmanager_of_compose(
    newer: tuple[str, str], tmp_path: Path
) -> None:
    file, templates = tmp_path / "alertmanager.yml", [str(Path("deploy/alertmanager/telltale.tmpl").resolve())]
    file.write_text(yaml.safe_dump({**deployed(), **RECEIVERS, "templates": templates}))
    checked = subprocess.run([newer[1], "check-config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RECEIVERS['receivers'])} receivers" in checked.stdout
    assert "1 templates" in checked.stdout


@pytest.mark.thorough
def test_teams_tells_of_an_incident_with_links_to_its_picture_and_the_page(
    newer: tuple[str, str], tmp_path: Path
) -> None:
    with listening() as hook:
        receivers = on_this_machine(hook, "127.0.0.1:9", tmp_path, ())
        teams = next(one for one in receivers if one["name"] == "plant")["msteamsv2_configs"]
        only = [{"name": name, "msteamsv2_configs": teams} for name in ("operators", "plant", "plant-critical")]
        with (
            notifying_alertmanager(tmp_path, only, newer[0]) as alertmanager,
            sending(alertmanager, critical_incident()),
        ):
            wait_until(lambda: bool(posted(hook, "/teams")), "Teams")
            page, picture = links_of(alertmanager)
        said = json.dumps(posted(hook, "/teams")[0], ensure_ascii=False)
        assert f"critical: {GROUP}: 1 stream anomalous" in said
        assert f"]({page})" in said
        assert f"]({picture})" in said
