"""What the Kafka client may log."""

from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.cluster import ClusterMetadata

from service.kafka.client import silence_client_below_warning


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
