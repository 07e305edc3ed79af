"""What the Kafka client may log, and what it needs to log in."""

import sys
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.cluster import ClusterMetadata

from service.errors import RefusedSetting
from service.kafka.client import connecting, silence_client_below_warning


class Connections:
    """As much of the client's connections as asking for the metadata takes; every request ends with this error."""

    def __init__(self, error: Exception) -> None:
        self._net = self
        self._error = error

    def update_backoff(self, _: object) -> None: ...

    def reset_backoff(self, _: object) -> None: ...

    def broker_version_data(self, *_: object) -> None: ...

    async def send(self, *_: object) -> Any:
        raise self._error


def ask_for_metadata(error: Exception) -> None:
    connections = Connections(error)
    cluster = ClusterMetadata()
    cluster.attach(connections)
    with pytest.raises(type(error)):
        cluster.refresh_metadata(0).send(None)


def test_metadata_that_are_asked_for_as_the_client_closes_are_no_error(caplog: pytest.LogCaptureFixture) -> None:
    silence_client_below_warning()
    ask_for_metadata(kafka_errors.Cancelled())
    assert caplog.messages == []


def test_metadata_that_a_broker_does_not_send_are_an_error(caplog: pytest.LogCaptureFixture) -> None:
    silence_client_below_warning()
    ask_for_metadata(kafka_errors.RequestTimedOutError())
    assert len(caplog.messages) == 1
    assert "RequestTimedOutError" in caplog.messages[0]


@pytest.mark.parametrize(
    ("mechanism", "library", "extra"), [("AWS_MSK_IAM", "botocore", "msk"), ("GSSAPI", "gssapi", "kerberos")]
)
def test_a_mechanism_without_its_library_is_refused_at_once(
    mechanism: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    said = rf"sasl_mechanism is {mechanism}: found no module {library}, .*pip install 'telltale\[{extra}\]'"
    with pytest.raises(RefusedSetting, match=said), connecting("nowhere:1", {"sasl_mechanism": mechanism}):
        pass
