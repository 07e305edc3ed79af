"""Telltale from Python: learn what is normal from a DataFrame, judge another one, follow a stream reading by reading.

Frames are of polars or of pandas; what comes back is of the same library. The figures are those of `telltale score` and
`telltale run` on the same readings, to the last bit.

A frame has columns of three kinds:

- times: `timestamp`, the column that `time` names, or pandas' index. Datetimes (without a zone they are UTC), dates,
  milliseconds (another unit: `time_unit`) or RFC 3339 text.
- streams: `stream`, or the column that `stream` names. Without one the frame is one stream, which is called `name`.
- values, in numbers. None, NaN and infinity are missing values.

Times must rise in each stream. order="sort" sorts them; order="keep" takes rows as they come, as the service does, and
judges none that is late or repeated. Everything else raises UnusableData, which says what helps.

Examples:
    >>> import telltale
    >>> from models.data.synthetic import plant, to_frame
    >>> frame = to_frame(plant(streams=2, readings=2400, seed=3, fault_every=300, first_fault_after=1600))
    >>> past, present = frame.filter(part="train"), frame.filter(part="test")
    >>> detector = telltale.train(past, hidden=16, epochs=3)
    >>> detector
    Detector(lstm, 16 hidden units, channels temperature, pressure, vibration; 2 known streams)
    >>> judged = detector.judge(present)
    >>> judged.columns[:6]
    ['stream', 'timestamp', 'score', 'alarm', 'expected_temperature', 'lower_temperature']
    >>> len(judged) == len(present)
    True
    >>> detector.anomalies(present).columns
    ['stream', 'start', 'end', 'peak', 'severity', 'kind', 'channels', 'status']
    >>> detector.anomalies(present)["stream", "severity", "channels"].rows()[0]
    ('line-01/pump-001', 'critical', 'temperature')

    Readings that come one by one are judged alike:

    >>> first = present.row(0, named=True)
    >>> verdict = detector.observe(first["timestamp"], first, stream=first["stream"])
    >>> (verdict.stream, verdict.score, verdict.alarm) == judged.row(0)[:1] + judged.row(0)[2:4]
    True
"""

from models.checkpoints.checkpoint_header import UnusableCheckpoint
from models.data.series import UnusableData
from models.output.output_file import UnwrittenOutput
from telltale._detector import Detector, Verdict, judge, load
from telltale._training import PoorTraining, train

__all__ = [
    "Detector",
    "PoorTraining",
    "UnusableCheckpoint",
    "UnusableData",
    "UnwrittenOutput",
    "Verdict",
    "judge",
    "load",
    "train",
]
