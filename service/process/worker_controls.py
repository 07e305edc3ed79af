"""What people said that workers heed: which checkpoint is to judge, and when nothing is learned.

A thread reads the topic of controls, and loads the file.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import structlog

from models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from models.checkpoints.checkpoint_header import UnusableCheckpoint
from service.errors import LogUnavailable, RefusedInput, TelltaleError
from service.kafka.groupless import KafkaGrouplessLog
from service.live.observer import Promotion
from service.live.status import CheckpointStatus
from service.log.port import Log, Partition
from service.pipeline import Judge
from service.process.controls import ControlTopic
from service.process.models import Models
from service.process.quiet import said_pauses
from service.settings.settings import Settings, client_options
from service.stages.incidents.controls import Control, PromotedModel
from service.state.pauses import SaidPause

LOOK_EVERY_S = 2.0
TRY_EVERY_S = 10.0  # where there is no such topic, no broker, or a checkpoint that cannot be used

logger = structlog.get_logger("telltale")


def said_of(controls: Mapping[str, Control], settings: Settings, topic: str) -> PromotedModel | None:
    """What people promoted for a topic last: for it alone, or else for all that have no model of their own."""
    said = [one for one in controls.values() if isinstance(one, PromotedModel)]
    own = [one for one in said if one.topic == topic]
    for_all = [one for one in said if one.topic is None and topic not in settings.models]
    return next(reversed(own or for_all), None)


def open_promoted(said: PromotedModel, features: tuple[str, ...]) -> Checkpoint:
    """features: of the model that it replaces. Raises UnusableCheckpoint that says what is wrong with it."""
    checkpoint = open_checkpoint(Path(said.checkpoint))
    if checkpoint.digest != said.sha256:
        raise UnusableCheckpoint(
            f"{said.checkpoint}: its SHA-256 is {checkpoint.digest}, promoted was {said.sha256}: the file was replaced"
        )
    if checkpoint.detector.features != features:
        raise UnusableCheckpoint(
            f"{said.checkpoint}: judges {', '.join(checkpoint.detector.features)}, expected "
            f"{', '.join(features)}: a model with other channels needs a restart"
        )
    return checkpoint


class WorkerControls:
    """What a worker is given of it: what was last loaded is handed out at once, whatever the thread waits for."""

    def __init__(
        self,
        settings: Settings,
        models: Models,
        judge_of: Callable[[Checkpoint], Judge],
        shown: Callable[[Checkpoint], CheckpointStatus],
    ) -> None:
        """judge_of: may take a while; called in the thread. shown: what the status says of one."""
        self._settings = settings
        self._features = {topic: models.of(topic).detector.features for topic in settings.kafka.topics}
        self._judge_of, self._shown = judge_of, shown
        self._usual = {
            topic: Promotion(
                judge_of(models.of(topic)), shown(models.of(topic)), topic if topic in models.others else ""
            )
            for topic in settings.kafka.topics
        }
        self._wanted: Mapping[str, Promotion] = dict(self._usual)
        self._loaded: dict[str, Promotion] = {}  # by scope and digest
        self._problems: dict[str, str] = {}  # by topic
        self._controls = ControlTopic(settings.incidents.control_topic)
        self._pauses = said_pauses(settings, {})
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="controls", daemon=True)

    # --- asked by the worker's thread

    def wanted(self, topic: str) -> Promotion | None:
        return self._wanted.get(topic)

    def find(self, topic: str, digest: str) -> Promotion | None:
        """That of the settings, or one that was promoted, as long as the topic of controls still has its record."""
        usual, said = self._usual[topic], self._controls.standing.promoted.get(digest)
        if digest == usual.judge.digest or said is None:
            return usual if digest == usual.judge.digest else None
        try:
            return self._promotion(topic, said)
        except UnusableCheckpoint as error:
            logger.warning("model_unusable", topic=topic, reason=str(error))
            return None

    def open_log(self) -> Log:
        kafka = self._settings.kafka
        return KafkaGrouplessLog(kafka.bootstrap_servers, kafka.changelog_topic, client_options(self._settings))

    def refused(self, partition: Partition, promotion: Promotion, error: TelltaleError) -> None:
        self._note(partition.topic, f"{promotion.checkpoint.path}: {error}")

    def pauses(self) -> Sequence[SaidPause]:
        """In which nothing is learned of some streams; the same object until people say else."""
        return self._pauses

    def problem(self) -> str:
        """Why what people promoted judges nothing; empty: nothing is wrong."""
        return "; ".join(dict.fromkeys(self._problems.values()))

    # --- in the thread

    def begin(self) -> None:
        """Read what stands, and load it: before a worker restores what a promoted checkpoint has written."""
        try:
            with closing(self._open()) as log:
                self._look(log)
        except RefusedInput:
            logger.debug("no_controls", topic=self._settings.incidents.control_topic)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.is_set():
            try:
                with closing(self._open()) as log:
                    while not self._ended.wait(LOOK_EVERY_S):
                        self._look(log)
            except (RefusedInput, LogUnavailable) as error:
                logger.debug("controls_not_read", reason=str(error))
                self._ended.wait(TRY_EVERY_S)

    def _open(self) -> KafkaGrouplessLog:
        return KafkaGrouplessLog(self._settings.kafka.bootstrap_servers, None, client_options(self._settings))

    def _look(self, log: KafkaGrouplessLog) -> None:
        if not self._controls.look(log) and not self._problems:
            return
        pauses = said_pauses(self._settings, self._controls.standing.held)
        if pauses != self._pauses:
            self._pauses = pauses
        wanted = dict(self._wanted)
        for topic in self._usual:
            said = said_of(self._controls.standing.held, self._settings, topic)
            try:
                wanted[topic] = self._usual[topic] if said is None else self._promotion(topic, said)
            except UnusableCheckpoint as error:
                self._note(topic, str(error))
            else:
                self._problems.pop(topic, None)
        self._wanted = wanted

    def _promotion(self, topic: str, said: PromotedModel) -> Promotion:
        """Loaded once. Raises UnusableCheckpoint."""
        usual = self._usual[topic]
        if said.sha256 == usual.judge.digest:
            return usual
        scope = usual.topic or said.topic or ""
        place = f"{scope}/{said.sha256}"
        if place not in self._loaded:
            checkpoint = open_promoted(said, self._features[topic])
            self._loaded[place] = Promotion(self._judge_of(checkpoint), self._shown(checkpoint), scope)
            logger.info("model_loaded", topic=topic, checkpoint=said.checkpoint, digest=said.sha256[:12], by=said.by)
        return self._loaded[place]

    def _note(self, topic: str, problem: str) -> None:
        if self._problems.get(topic) != problem:
            logger.error("model_unusable", topic=topic, reason=problem)
        self._problems[topic] = problem
