"""The controls that stand: given on their topic, and not taken back."""

from collections.abc import Iterable

from service.errors import RejectedReading
from service.stages.incidents.controls import Control, PromotedModel, read_control


class StandingControls:
    """By id, the one given last at the end."""

    def __init__(self) -> None:
        self.held: dict[str, Control] = {}
        self.promoted: dict[str, PromotedModel] = {}  # by digest, all that were promoted, also those replaced since

    def hear(self, keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> None:
        """Records of the topic, in order; one that is no control is passed over."""
        for key, value in zip(keys, values, strict=True):
            try:
                name, control = read_control(key, value)
            except RejectedReading:
                continue
            self.held.pop(name, None)
            if control is not None:
                self.held[name] = control
            if isinstance(control, PromotedModel):
                self.promoted[control.sha256] = control
