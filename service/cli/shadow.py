"""What a running service says of its second checkpoint, as a page."""

import http.client
import json
import urllib.error
import urllib.request

import msgspec

from models.data.rfc3339 import rfc3339
from models.insight.shadow_report import AloneAlarm, ComparedPartition, Comparison
from service.errors import RefusedInput
from service.host.outgoing import opener
from service.live.shadow import ALARMS_NAMED
from service.live.status import CheckpointStatus, ShadowStatus
from service.notify.links import Links

WITHIN_S = 30.0
MAX_STATUS_BYTES = 64 * 1024 * 1024


class _StatusSaid(msgspec.Struct):
    """Of a service's status, what is needed here."""

    checkpoint: CheckpointStatus
    shadow: ShadowStatus | None


def comparison_of(service: str, token: str | None) -> Comparison:
    """Raises RefusedInput where the service cannot be asked, or compares nothing."""
    said = _ask(service, token)
    shadow = said.shadow
    if shadow is None:
        raise RefusedInput(f"{service}: it compares nothing, expected a second checkpoint (shadow.checkpoint)")
    return Comparison(
        shadow=shadow.checkpoint.digest,
        current=said.checkpoint.digest,
        partitions=[
            ComparedPartition(
                f"{one.topic}-{one.number}",
                one.readings,
                one.only_shadow,
                one.only_current,
                one.both,
                one.opened,
                one.opened_current,
                one.alone,
                one.alone_current,
            )
            for one in shadow.partitions
        ],
        streams=shadow.streams,
        alarms=[
            AloneAlarm(
                one.stream,
                one.of,
                one.opened_ms,
                one.closed_ms,
                one.severity,
                one.score,
                one.other_score,
                one.peak,
            )
            for one in shadow.alarms
        ],
        most_alarms=ALARMS_NAMED,
    )


def page_link(service: str, stream: str, at_ms: int) -> str:
    return Links(service).page(stream, rfc3339(at_ms))


def _ask(service: str, token: str | None) -> _StatusSaid:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{service.rstrip('/')}/api/v1/status", headers=headers)  # noqa: S310  (http, https: checked)
    try:
        with opener().open(request, timeout=WITHIN_S) as answer:
            return msgspec.json.decode(answer.read(MAX_STATUS_BYTES), type=_StatusSaid)
    except urllib.error.HTTPError as error:
        with error:
            hint = ": it asks for its token (http.token)" if error.code == 401 else ""
            raise RefusedInput(f"{service} answered {error.code}{hint}, expected its status") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or repr(error)
        raise RefusedInput(f"{service}: {reason}, expected a running service (--service)") from None
    except (msgspec.MsgspecError, json.JSONDecodeError) as error:
        raise RefusedInput(f"{service}: {error}, expected the status of a service of this version") from None
