"""The login to Amazon MSK by IAM: what the client sends is what AWS documents, signed as AWS's own library signs it."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from kafka.net.sasl import msk

HOST, REGION = "b-1.plant.abc123.c2.kafka.eu-central-1.amazonaws.com", "eu-central-1"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # of AWS's documentation
SESSION = "FwoGZXIvYXdzEXAMPLE/token+with=signs"
NOW = datetime(2026, 1, 5, 12, 30, 45, tzinfo=UTC)


def sent(monkeypatch: pytest.MonkeyPatch, token: str | None) -> dict[str, str]:
    fixed = SimpleNamespace(datetime=SimpleNamespace(now=lambda _zone: NOW), timezone=SimpleNamespace(utc=UTC))
    monkeypatch.setattr(msk, "datetime", fixed)
    found: dict[str, str] = json.loads(msk.AwsMskIamClient(HOST, KEY, SECRET, REGION, token).first_message())
    return found


# botocore 1.44.8: SigV4QueryAuth(Credentials(…), "kafka-cluster", "eu-central-1", expires=900) of
# GET https://HOST/?Action=kafka-cluster%3AConnect at that time.
@pytest.mark.parametrize(
    ("token", "signature"),
    [
        (None, "7369a55f03b51e8a4211bc41ea68f58d1e41e172d409e6c59c7949ab7399ec99"),
        (SESSION, "53c0abff41defcc6d4d2ffedced2cabaa6d03051e1e6e1c765c569016cb7a0bc"),
    ],
)
def test_the_login_is_signed_as_awss_own_library_signs_it(
    token: str | None, signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are those of the README of aws-msk-iam-auth, version 2020_10_22 of the payload."""
    assert sent(monkeypatch, token) == {
        "version": "2020_10_22",
        "host": HOST,
        "user-agent": "kafka-python",
        "action": "kafka-cluster:Connect",
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{KEY}/20260105/{REGION}/kafka-cluster/aws4_request",
        "x-amz-date": "20260105T123045Z",
        "x-amz-signedheaders": "host",
        "x-amz-expires": "900",
        "x-amz-signature": signature,
        **({} if token is None else {"x-amz-security-token": token}),
    }
