"""HTTP: what people say of streams, anomalies and incidents, written to the topic of controls.

The one thing that can be changed over HTTP, so it takes a token: without one, any page in a browser on this machine
could send it.
"""

import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from models.data.rfc3339 import rfc3339
from service.errors import LogUnavailable, RefusedInput
from service.http.answers import json_of, schema
from service.http.control_list import ControlList, ControlsFound
from service.log.port import Record
from service.stages.incidents.controls import MOST_BYTES, Control, control_record, type_of

WriteControl = Callable[[Record], None]  # returns when the log has it; raises LogUnavailable, RefusedInput
WITHOUT_LOGIN = "controls are taken only where a token is set: http.token"
MOST_LISTED = 1_000
ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "It is no control that can take effect: the reason says why."},
    403: {"description": "No token is set for this service."},
    413: {"description": "It is larger than a control may be."},
    503: {"description": "The brokers cannot be reached, or there is no topic of controls."},
}


class ControlWritten(msgspec.Struct, frozen=True):
    """A control that is on its topic; `telltale incidents` applies it."""

    control: str  # its id, by which it can be taken back


def router(controls: ControlList, write: WriteControl | None, has_token: bool) -> APIRouter:
    """controls: those that stand. write: None: there is no topic. has_token: whether who asks has brought one."""
    api = APIRouter(prefix="/api/v1", tags=["controls"])

    @api.get("/controls", responses={200: schema(ControlsFound)})
    async def standing(
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="How many, the latest.")] = 200,
    ) -> Response:
        """Controls that were given and not taken back, the latest first, without quiet times that have ended.

        They are those of the topic of controls; `followed` is false where that cannot be read.
        """
        may_write = write is not None and has_token
        return json_of(controls.found(limit, time.time_ns() // 1_000_000, may_write))

    if write is not None:
        _add_writing(api, controls, write, has_token)
    return api


def _add_writing(api: APIRouter, controls: ControlList, write: WriteControl, may_write: bool) -> None:
    @api.post(
        "/controls", status_code=201, responses={201: schema(ControlWritten), **ANSWERS}, openapi_extra=_described()
    )
    async def give(request: Request) -> Response:
        """Write a control, as JSON: a quiet time, a dependency, an acknowledgement or a label.

        Fields as on the topic of controls; `at` may be left out, and is now.
        """
        body = await _body(request)
        if body is None:
            return _refused(413, f"expected at most {MOST_BYTES} bytes")
        try:
            said = msgspec.json.decode(body, type=dict[str, Any])
            said.setdefault("at", rfc3339(time.time_ns() // 1_000_000))
            control: Control = msgspec.convert(said, Control)
            record = control_record(f"{type_of(control)}-{uuid.uuid4().hex[:8]}", control)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return _refused(400, str(error))
        return await written(record, 201)

    @api.delete("/controls/{control}", responses={200: schema(ControlWritten), **ANSWERS})
    async def take_back(control: Annotated[str, Path(max_length=200, description="Its id.")]) -> Response:
        """Take a control back, by its id."""
        try:
            record = control_record(control, None)
        except ValueError as error:
            return _refused(400, str(error))
        return await written(record, 200)

    async def written(record: Record, status_code: int) -> Response:
        if not may_write:
            return _refused(403, WITHOUT_LOGIN)
        try:
            await run_in_threadpool(write, record)
        except (LogUnavailable, RefusedInput) as error:
            return _refused(503, str(error))
        controls.hear([record.key], [record.value])
        return json_of(ControlWritten((record.key or b"").decode()), status_code)


async def _body(request: Request) -> bytes | None:
    """None: it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return body


def _refused(status_code: int, reason: str) -> Response:
    return json_of({"reason": reason}, status_code)


def _described() -> dict[str, Any]:
    described = schema(Control)
    described["content"]["application/json"]["schema"].pop("discriminator", None)
    return {"requestBody": {"required": True, **described}}
