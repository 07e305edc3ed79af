"""What was judged again, in lines for a terminal."""

from collections.abc import Iterator, Sequence

from models.output.wording import counted
from service.inspect.question import Reading, Replayed
from service.inspect.text_table import aligned


def lines_of(found: Replayed) -> Iterator[str]:
    yield f"{found.stream}  topic {found.topic}, partition {found.partition}, checkpoint {found.checkpoint[:12]}"
    if found.another_model:
        yield "  WHAT ANOTHER MODEL WOULD HAVE SAID: the service judged these readings with another checkpoint"
    yield f"  from {found.begins_with}"
    yield from (f"  {remark}" for remark in found.remarks)
    yield ""
    rows = [_cells(reading, len(found.features)) for reading in found.readings]
    yield from aligned([_heading(found.features), *rows])
    yield ""
    yield f"{counted(len(found.events), 'event')} of the anomalies that touch these readings" + (
        ":" if found.events else ""
    )
    yield from (bytes(event).decode() for event in found.events)
    yield from _verdict_of_checks(found)


def _heading(features: Sequence[str]) -> list[str]:
    return ["time", "offset", *(cell for name in features for cell in (name, "expected")), "score", ""]


def _cells(reading: Reading, features: int) -> list[str]:
    cells = [reading.time or "-", f"{reading.offset}:{reading.index}" if reading.index else str(reading.offset)]
    for value, expected, lower, upper in zip(
        reading.values, reading.expected, reading.lower, reading.upper, strict=True
    ):
        band = "-" if expected is None else f"{expected:.5g} ({_short(lower)} to {_short(upper)})"
        cells += [_short(value), band]
    cells += ["-"] * (2 + 2 * features - len(cells))  # of what could not be read
    return [*cells, "-" if reading.score is None else f"{reading.score:.4f}", _said(reading)]


def _said(reading: Reading) -> str:
    return ("ALARM" if reading.alarm else "") if reading.fate == "judged" else reading.fate


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _verdict_of_checks(found: Replayed) -> Iterator[str]:
    if not found.checks:
        if not found.another_model:
            yield "the changelog has no later state of this stream to compare with"
        return
    wrong = [check for check in found.checks if check.differs]
    for check in wrong:
        yield f"state at offset {check.offset:,} DIFFERS from the changelog's: {', '.join(check.differs)}"
    equal = [check.offset for check in found.checks if not check.differs]
    if equal:
        more = f" (and at {len(equal) - 1} before)" if len(equal) > 1 else ""
        yield f"state at offset {equal[-1]:,} equals the changelog's to the bit{more}"
