"""Streams that start warm: what a detector knows of them after their training parts."""

from collections.abc import Sequence

from models.data.series import Series
from models.detection.detector import Detector, DetectorConfig
from models.detection.judging import judge_series
from models.detection.rows import SCALARS, Rows, fresh
from models.detection.scoring import ScoreConfig
from models.detection.sensor_rules import SensorRules
from models.net.forecaster import Forecaster

ALARM = ("alarm", "opened_offset", "opened_ms", "opened_by", "peak", "length", "rest")
PRIME_READINGS = 512  # of each stream at once, while the trained net goes through the training part


def prime(
    forecaster: Forecaster, config: DetectorConfig, series: Sequence[Series], sensors: SensorRules | None = None
) -> Detector:
    """A detector whose training streams start warm: scale, calibration and last memory after all of `series`.

    All of it comes from going through the part as the service would, with the very detector that will go on from there:
    a scale that is known before it could be seen makes another past. sensors: whose limits hold.
    """
    detector = Detector.cold(forecaster, config)
    rows = fresh(len(series), forecaster.config)
    for begin in range(0, max(len(one.times_ms) for one in series), PRIME_READINGS):
        stretch = slice(begin, begin + PRIME_READINGS)
        judge_series(detector, [one.select(stretch) for one in series], rows, sensors=sensors)
    settle(rows, config.score)
    return Detector(forecaster, config, {one.key.encode(): stream for stream, one in enumerate(series)}, rows)


def settle(rows: Rows, config: ScoreConfig) -> None:
    """The training part is over: alarms still open are forgotten, and its baseline is that of a stream long known.

    A training part is known to be normal, readings to come are not: so they replace what it taught of residuals and
    level deviations no faster than a full memory would. Its scale counts as many readings as it has: of a short part it
    is not the whole truth.
    """
    for name in ALARM:
        rows.scalar(name)[:] = SCALARS.field(name).initial
    rows.scalar("learned").clamp_(min=float(config.long_readings))
