"""What judges with a checkpoint: its pipeline as the settings say, and what gives its rows their meaning."""

from collections.abc import Mapping, Sequence

from models.checkpoints.checkpoint import Checkpoint
from models.detection.numerics import self_test
from service.input.scores import ScoreStream
from service.pipeline import Judge, Pipeline
from service.process.quiet import calendar_pauses
from service.process.records import record_rules
from service.process.sensors import sensor_rules
from service.settings.settings import Settings
from service.state.changelog import Layout, Meaning
from service.state.pauses import Pause


class Judges:
    """Made once of each checkpoint. Called by several threads, of a checkpoint by one."""

    def __init__(self, settings: Settings, numerics: Mapping[str, str]) -> None:
        """numerics: by digest, fingerprints of this machine's arithmetic; of another checkpoint it is found out.

        Raises RefusedSetting and RefusedInput where a calendar cannot be read; it is read now, for all checkpoints.
        """
        self._settings, self._numerics = settings, numerics
        self._calendars = calendar_pauses(settings)
        self._made: dict[str, Judge] = {}

    def of(self, checkpoint: Checkpoint) -> Judge:
        digest = checkpoint.digest
        if digest not in self._made:
            numerics = self._numerics.get(digest) or self_test(checkpoint.detector)
            meaning = Meaning(Layout.of(digest, checkpoint.detector.rows_for([])), numerics)
            self._made[digest] = Judge(_pipeline(self._settings, checkpoint, self._calendars), meaning)
        return self._made[digest]


def _pipeline(settings: Settings, checkpoint: Checkpoint, pauses: Sequence[Pause]) -> Pipeline:
    detector, limits = checkpoint.detector, settings.limits
    future_ms, past_ms = int(limits.max_future_s * 1000), int(limits.max_past_s * 1000)
    sensors, records = sensor_rules(settings, detector.features), record_rules(settings)
    scores = ScoreStream(settings.scores.streams, detector.features) if settings.scores.topic else None
    return Pipeline(
        detector, checkpoint.digest, future_ms, limits.max_streams, past_ms, records, sensors, scores, pauses
    )
