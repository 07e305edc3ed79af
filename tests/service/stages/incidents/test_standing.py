"""Which controls stand, from the records of their topic."""

from service.stages.incidents.controls import Acknowledgement, control_record
from service.stages.incidents.standing import StandingControls
from tests.service.stages.incidents.plant import time_at


def test_what_was_given_stands_until_it_is_replaced_or_taken_back_and_what_is_no_control_is_passed_over() -> None:
    def ack(name: str, incident: str | None) -> tuple[bytes | None, bytes | None]:
        control = None if incident is None else Acknowledgement(incident=incident, by="anna", at=time_at(0))
        record = control_record(name, control)
        return record.key, record.value

    standing = StandingControls()
    records = [ack("a", "i-1"), ack("b", "i-2"), ack("c", "i-3"), ack("a", "i-4"), ack("b", None)]
    records += [(b"d", b"{"), (b"no id", b"{}"), (None, None)]
    standing.hear(*zip(*records, strict=True))
    held = [(name, control.incident) for name, control in standing.held.items() if isinstance(control, Acknowledgement)]
    assert held == [("c", "i-3"), ("a", "i-4")]  # the one given last at the end
