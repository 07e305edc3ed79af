"""The log from outside the group, and what judges its records as the service does: for who looks, and is no worker."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.checkpoint_header import UnusableCheckpoint
from models.detection.numerics import self_test
from service.errors import RefusedInput
from service.http.past_process import LookBack, PastQuestion, Tell
from service.input.reading_batch import StreamKey
from service.inspect.groupless_log import Search
from service.inspect.looking_back import look_back
from service.inspect.past import past_of
from service.inspect.progress import ReportingLog
from service.inspect.question import Question
from service.kafka.groupless import KafkaGrouplessLog
from service.kafka.topics import partition_of
from service.pipeline import Pipeline
from service.process.controls import standing_controls
from service.process.models import Models
from service.process.quiet import calendar_pauses
from service.process.records import record_rules
from service.process.sensors import sensor_rules
from service.process.worker_controls import open_promoted, said_of
from service.settings.settings import Settings, client_options
from service.state.changelog import Layout
from service.state.pauses import Pause


def judges(
    settings: Settings, checkpoint: Checkpoint, calendars: Sequence[Pause] | None = None
) -> tuple[Pipeline, Layout]:
    """What judges as the service does, but for the limit on streams: it is one stream's, not a partition's.

    calendars: pauses by the calendars of the settings; None: they are read now.
    """
    detector, digest, limits = checkpoint.detector, checkpoint.digest, settings.limits
    future_ms, past_ms = (int(bound * 1000) for bound in (limits.max_future_s, limits.max_past_s))
    rules, sensors = record_rules(settings), sensor_rules(settings, detector.features)
    pauses = calendar_pauses(settings) if calendars is None else calendars
    pipeline = Pipeline(detector, digest, future_ms, max_past_ms=past_ms, rules=rules, sensors=sensors, pauses=pauses)
    return pipeline, Layout.of(digest, detector.rows_for([]))


def search_of(settings: Settings, topic: str | None = None, partition: int | None = None) -> Search:
    """Where a stream is looked for. topic, partition: None: in all that the settings name."""
    topics = settings.kafka.topics if topic is None else (topic,)
    return Search(settings.kafka.group, topics, partition, partition_of)


@contextmanager
def groupless_log(settings: Settings, group: str | None = None) -> Iterator[KafkaGrouplessLog]:
    """group: whose committed offsets count."""
    kafka = settings.kafka
    log = KafkaGrouplessLog(kafka.bootstrap_servers, kafka.changelog_topic, client_options(settings), group)
    try:
        yield log
    finally:
        log.close()


def looking_back(settings: Settings, models: Models, numerics: Mapping[str, str]) -> LookBack:
    """What answers the page's questions for a stream's past. numerics: this machine's, by checkpoint."""
    calendars = calendar_pauses(settings)
    known = {one.digest: (*judges(settings, one, calendars), numerics[one.digest]) for one in models.all}

    def answer(asked: PastQuestion, tell: Tell) -> None:
        topic = _topic_of(asked, settings, known[models.usual.digest][1]) if models.others else asked.topic
        judging = _judging(settings, models, topic or settings.kafka.topics[0])
        if judging.digest not in known:
            known[judging.digest] = (*judges(settings, judging, calendars), self_test(judging.detector))
        pipeline, layout, arithmetic = known[judging.digest]
        question = Question(
            StreamKey(asked.stream.encode()),
            asked.around_ms,
            asked.readings,
            settings.limits.stream_ttl_s,
            settings.state.prime_readings,
        )
        with groupless_log(settings) as log:
            reporting = ReportingLog(log, _reporter(tell))
            search = search_of(settings, topic, asked.partition)
            tell("past", look_back(reporting, search, question, pipeline, layout, arithmetic))

    return answer


def _judging(settings: Settings, models: Models, topic: str) -> Checkpoint:
    """The one that people promoted for a topic, where it can be used; else that of the settings."""
    usual = models.of(topic)
    try:
        said = said_of(standing_controls(settings), settings, topic)
        return usual if said is None else open_promoted(said, usual.detector.features)
    except (RefusedInput, UnusableCheckpoint):
        return usual


def _topic_of(asked: PastQuestion, settings: Settings, layout: Layout) -> str:
    """The topic that the stream is in, which says what judges it."""
    if asked.topic is not None:
        return asked.topic
    with groupless_log(settings) as log:
        search = search_of(settings, partition=asked.partition)
        return past_of(log, search, StreamKey(asked.stream.encode()), layout).origin.partition.topic


def _reporter(tell: Tell) -> Callable[[str, int, int], None]:
    return lambda what, read, of: tell("progress", {"what": what, "read": read, "of": of})
