"""Records cut to what a topic takes: a dead letter must not be larger than the record that it reports was.

What cannot go whole goes cut, with what is known of all of it in headers.
"""

import hashlib

from service.errors import RefusedInput
from service.log.port import Cut, Headers, Record

MAX_MESSAGE_BYTES = 1_048_588  # a topic's max.message.bytes, unless it was set
BATCH_BYTES = 61 + 21  # a batch's header; a record's length, attributes, time and offset
NUMBER_BYTES = 5  # a length before a field, or a count
MARK = "telltale-reason"  # the first of the headers that are ours; those before it came with the record
CUT_HEADERS_BYTES = 400  # what the headers take that say what was cut
LEAST_DETAIL_BYTES = 40


def fitted(record: Record, max_bytes: int) -> Record:
    """The record as it is, or cut so that a batch that holds it alone has at most `max_bytes`, compressed or not.

    A header that is null becomes empty. The value is cut first, down to half of what there is; then headers that came
    with the record are left out, those that are too large; then its key is cut. The headers that say why it is a dead
    letter stay. Added to them, where something was cut: telltale-value-bytes and telltale-value-sha256 (of the whole
    value), the same of the key, and telltale-headers-left-out (a count). Raises RefusedInput where these do not fit.
    """
    # The client writes no header that is null.
    record = record._replace(headers=tuple((name, data or b"") for name, data in record.headers))
    theirs, ours, left_out = _split(record.headers)
    key, value = record.key, record.value
    if not (isinstance(key, Cut) or isinstance(value, Cut) or left_out) and record_bytes(record) <= max_bytes:
        return record
    room = max_bytes - CUT_HEADERS_BYTES - record_bytes(Record(None, None, ours))
    if room < 0:
        ours = tuple((name, _shortened(name, data, -room)) for name, data in ours)
        room = max_bytes - CUT_HEADERS_BYTES - record_bytes(Record(None, None, ours))
    if room < 0:
        raise RefusedInput(
            f"a dead letter takes at least {max_bytes - room} bytes, its topic takes {max_bytes}: set"
            " max.message.bytes of the topic of dead letters higher"
        )
    key_bytes, value_bytes, header_bytes = len(key or b""), len(value or b""), _size(theirs)
    value_room = min(value_bytes, max(room - key_bytes - header_bytes, room // 2))
    kept = _that_fit(theirs, max(room - value_room - key_bytes, room // 4))
    key_room = min(key_bytes, room - value_room - _size(kept))
    left_out += len(theirs) - len(kept)
    said = (
        *_said("key", key, key_room),
        *_said("value", value, value_room),
        *([("telltale-headers-left-out", str(left_out).encode())] if left_out else ()),
    )
    return Record(_cut(key, key_room), _cut(value, value_room), (*kept, *ours, *said), record.time_ms)


def record_bytes(record: Record) -> int:
    """The size of a batch that holds it alone, uncompressed; a few bytes more than it takes."""
    return BATCH_BYTES + 2 * NUMBER_BYTES + len(record.key or b"") + len(record.value or b"") + _size(record.headers)


def _size(headers: Headers) -> int:
    return NUMBER_BYTES + sum(2 * NUMBER_BYTES + len(name.encode()) + len(data or b"") for name, data in headers)


def _split(headers: Headers) -> tuple[Headers, Headers, int]:
    """Those that came with the record, those that are ours, and how many were left out before."""
    marks = [n for n, (name, _) in enumerate(headers) if name == MARK]
    at = marks[-1] if marks else len(headers)
    left_out = sum(int(data or b"0") for name, data in headers[at:] if name == "telltale-headers-left-out")
    ours = tuple(header for header in headers[at:] if header[0] != "telltale-headers-left-out")
    return headers[:at], ours, left_out


def _shortened(name: str, data: bytes | None, less: int) -> bytes | None:
    if name != "telltale-detail" or data is None:
        return data
    return data[: max(LEAST_DETAIL_BYTES, len(data) - less)]


def _that_fit(headers: Headers, room: int) -> Headers:
    kept = []
    for header in headers:
        size = _size((header,)) - NUMBER_BYTES
        if size <= room - NUMBER_BYTES:
            kept.append(header)
            room -= size
    return tuple(kept)


def _said(what: str, data: bytes | None, room: int) -> Headers:
    """What is known of a key or value that does not go whole."""
    if isinstance(data, Cut):
        size, digest = data.size, data.sha256
    elif data is not None and len(data) > room:
        size, digest = len(data), hashlib.sha256(data).hexdigest()
    else:
        return ()
    return ((f"telltale-{what}-bytes", str(size).encode()), (f"telltale-{what}-sha256", digest.encode()))


def _cut(data: bytes | None, room: int) -> bytes | None:
    return None if data is None else bytes(data[:room])
