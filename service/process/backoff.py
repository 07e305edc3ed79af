"""How long to wait before a process that has ended is started again."""

FIRST_S = 0.1
MOST_S = 30.0
CALM_S = 60.0  # one that ran for so long had come up: its end is the first of a new row
MOST_IN_A_ROW = 12  # some two and a half minutes of waiting: no outage that would end by itself in a moment


class Backoff:
    """Of one process: 0.1 s, 0.2 s, 0.4 s, … 30 s, and then no more."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def wait_s(self, ran_s: float) -> float | None:
        """After an end. ran_s: how long it ran. None: it has ended too often, starting it again is no use."""
        if ran_s >= CALM_S:
            self._in_a_row = 0
        self._in_a_row += 1
        if self._in_a_row > MOST_IN_A_ROW:
            return None
        return min(MOST_S, FIRST_S * 2.0 ** (self._in_a_row - 1))
