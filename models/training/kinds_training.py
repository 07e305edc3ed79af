"""fit_kinds(), evaluate_kinds(): train the second head on faults of known kinds, and count how often it is right.

The forecaster stays as it is. The detector judges the series as they are; from some of the moments without an alarm it
also judges a copy with a fault in it (see injection), a wave at a time. The stream's state when its alarm changes, and
when the fault ends, is an example.
Sizes: N examples, R readings, S streams side by side, F features, D pieces of evidence a channel, H hidden units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator, default_rng
from torch import Tensor, nn

from models.data import windows
from models.data.arrays import Bools, Doubles, Int64s
from models.data.series import Series, UnusableData
from models.data.time_units import DAY_MS
from models.detection.detector import Detector, Readings, Transition
from models.detection.judging import judge_series
from models.detection.kinds import EVIDENCE, KINDS, Guess, KindsHead, evidence_of
from models.detection.rows import Rows
from models.net.packing import pack
from models.training.injection import SETTLED, InjectedFault, disturb, draw

WEEK_MS = 7 * DAY_MS
AFTER = 96  # readings after a fault's end in which its alarm may close
STILL_ITS_ALARM = 8  # readings after a fault's end in which an opening alarm still belongs to that fault
SYMPTOMS_GO_BACK = 1_024  # readings; older ones have next to no weight in a stream's symptoms
GRID = 16  # readings: faults begin at multiples of it
PLACES = 64  # of a series, at most, at which faults may begin
AT_ONCE = 256  # readings of each stream, where only the end matters
TRIES = 12  # places that are tried for a fault before it is given up
EVERY_FOURTH = 4  # stream is kept for evaluation


@dataclass(frozen=True, slots=True)
class KindsConfig:
    faults: int = 1_800  # to learn from, about; the series share them
    judged: int = 900  # to be judged on
    readings: int = 8_192  # of a series, at most: the last of those known to the detector, else the first
    cold: int = 256  # readings of a stream that the detector does not know before its first fault
    units: int = 32
    epochs: int = 60
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dropout: float = 0.5  # share of the memory that is left out at random while learning


class KindsReport(NamedTuple):
    """How the head named faults it had not seen: counts, a row a true kind, a column a named one, as in KINDS."""

    at_end: Int64s  # (6, 6) of every fault, from the state after its last reading, alarm or not
    at_alarm: Int64s  # (6, 7) by the last guess of the alarm the fault opened; last column: it opened none


def fit_kinds(
    detector: Detector,
    series: Sequence[Series],
    config: KindsConfig,
    seed: int,
    report_progress: Callable[[float], None] = lambda _: None,
) -> KindsHead:
    """Train a head on training series (without `part` = test rows). report_progress: 0..1, the share that is done."""
    watcher = watchful(detector, series)
    seen: list[_SeenStream] = []
    _go_through(watcher, _courses(watcher, series, config, config.faults, seed), seen.append, report_progress)
    kinds = {one.fault.kind for one in seen}
    if len(kinds) < len(KINDS):
        missing = ", ".join(kind for kind in KINDS if kind not in kinds)
        raise UnusableData(f"no calm stretch was found to put a fault of these kinds into: {missing}")
    return _learn(seen, config, seed)


def evaluate_kinds(
    detector: Detector,
    series: Sequence[Series],
    config: KindsConfig,
    seed: int,
    report_progress: Callable[[float], None] = lambda _: None,
) -> KindsReport:
    """Judge a detector with a head on faults put into `series`."""
    at_end = np.zeros((len(KINDS), len(KINDS)), np.int64)
    at_alarm = np.zeros((len(KINDS), len(KINDS) + 1), np.int64)
    courses = _courses(detector, series, config, config.judged, seed)
    last: list[int] = [len(KINDS)] * len(courses)

    def count(one: _SeenStream) -> None:
        if one.transition is None:
            at_end[KINDS.index(one.fault.kind), KINDS.index(one.guess.kind)] += 1
        elif one.transition.guess is not None and one.opened_at < one.fault.end:
            last[one.course] = KINDS.index(one.transition.guess.kind)

    _go_through(detector, courses, count, report_progress)
    for course, named in zip(courses, last, strict=True):
        at_alarm[KINDS.index(course.fault.kind), named] += 1
    return KindsReport(at_end, at_alarm)


class Scores(NamedTuple):
    """Of a confusion matrix; by kind, as in KINDS. 0 where there is nothing to divide by."""

    precision: Doubles
    recall: Doubles
    f1: Doubles
    faults: Int64s

    @property
    def macro_f1(self) -> float:
        """Over the kinds of which there were any; 0 where there were none."""
        return float(self.f1.sum() / max(int((self.faults > 0).sum()), 1))


def scores(confusion: Int64s) -> Scores:
    """confusion: (6, 6) or more columns, which are left out: faults that were not named."""
    square = confusion[:, : len(KINDS)].astype(np.float64)
    right = square.diagonal()
    precision = right / np.maximum(square.sum(0), 1)
    recall = right / np.maximum(square.sum(1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return Scores(precision, recall, f1, square.sum(1).astype(np.int64))


def learn_kinds(
    detector: Detector,
    series: Sequence[Series],
    config: KindsConfig,
    seed: int,
    report_progress: Callable[[float], None] = lambda _: None,
) -> tuple[Detector, KindsReport, int]:
    """The detector with a head, and how well it does on every fourth stream, which the head has not learned from.

    Returns also how many streams it was judged on. With fewer than four it learns from the first three quarters of each
    and is judged on the rest. The forecaster was trained on all of them: for unseen series, take others.
    """
    if len(series) >= EVERY_FOURTH:
        learned_from = [one for n, one in enumerate(series) if n % EVERY_FOURTH != EVERY_FOURTH - 1]
        kept = list(series[EVERY_FOURTH - 1 :: EVERY_FOURTH])
    else:
        borders = [len(one.times_ms) * 3 // 4 for one in series]
        learned_from = [one.select(_places(one)[:border]) for one, border in zip(series, borders, strict=True)]
        kept = [one.select(_places(one)[border:]) for one, border in zip(series, borders, strict=True)]
    head = fit_kinds(detector, learned_from, config, seed, lambda done: report_progress(done * 0.7))
    judge = watchful(detector.with_kinds(head), series)
    report = evaluate_kinds(judge, kept, config, seed + 1, lambda done: report_progress(0.7 + done * 0.3))
    return judge, report, len(kept)


def watchful(detector: Detector, series: Sequence[Series]) -> Detector:
    """The same detector, whose known streams have the symptoms of the end of their training part, `series`.

    Nothing else in their rows changes.
    """
    watcher = detector.with_kinds(detector.kinds or KindsHead.blank(detector.forecaster.config.memory_width))
    known = [one for one in series if one.key.encode() in watcher.known]
    if not known:
        return watcher
    rows = watcher.rows_for([one.key.encode() for one in known])
    pieces = [_warm(watcher, one, SYMPTOMS_GO_BACK) for one in known]
    for begin in range(0, SYMPTOMS_GO_BACK, AT_ONCE):
        if any(len(one.times_ms) > begin for one in pieces):
            judge_series(watcher, [one.select(slice(begin, begin + AT_ONCE)) for one in pieces], rows)
    places = torch.tensor([watcher.known[one.key.encode()] for one in known])
    known_rows = watcher.known_rows._replace(channels=watcher.known_rows.channels.clone())
    known_rows.symptoms[places] = rows.symptoms
    return Detector(watcher.forecaster, watcher.config, watcher.known, known_rows, watcher.kinds)


# --- going through series with faults in them


class _Course(NamedTuple):
    """The readings from a fault's begin until AFTER its end, and the stream's row (one) before them."""

    series: Series
    fault: InjectedFault  # start is 0
    row: Rows


class _SeenStream(NamedTuple):
    """A stream's state when its alarm changed because of a fault, or (transition None) when the fault ended."""

    course: int
    fault: InjectedFault
    transition: Transition | None
    opened_at: int  # the reading at which the alarm opened
    guess: Guess  # of the head, for that; where the alarm closes, the transition has another: see detection
    evidence: Doubles  # (F, D)
    memory: Doubles  # (H,)


class _Calm(NamedTuple):
    """A series as it is, judged by the detector."""

    series: Series
    calm: Bools  # (R,) no alarm is open
    rows: dict[int, Rows]  # by reading at which a fault may begin: the stream's row before it


def _courses(
    detector: Detector, series: Sequence[Series], config: KindsConfig, faults: int, seed: int
) -> list[_Course]:
    """About `faults` of them, every kind as often, spread over the series; the longest course first."""
    rng = default_rng(seed)
    most = max(1, faults // len(KINDS))
    if len(series) > most:
        series = [series[n] for n in rng.choice(len(series), most, replace=False).tolist()]
    of_each = len(KINDS) * -(-faults // (len(KINDS) * len(series)))
    courses = []
    for n, calm in enumerate(_look_for_calm(detector, series, config, min(PLACES, 4 * of_each), rng)):
        spread = windows.scale_of(calm.series)[1]
        for k in range(of_each if calm.rows else 0):
            kind = KINDS[(n + k) % len(KINDS)]
            tried = rng.choice(list(calm.rows), TRIES).tolist()
            found = (draw(kind, start, calm.series.values, calm.calm, spread, rng) for start in tried)
            fault = next((one for one in found if one is not None), None)
            if fault is not None:
                courses.append(_course(calm, fault, spread, rng))
    return sorted(courses, key=lambda course: -len(course.series.times_ms))


def _course(calm: _Calm, fault: InjectedFault, spread: Doubles, rng: Generator) -> _Course:
    stop = min(fault.end + AFTER, len(calm.calm))
    values = calm.series.values[fault.start - 1 : stop].copy()
    disturb(values, spread, fault._replace(start=1, end=fault.end - fault.start + 1), rng)
    course = calm.series.select(np.arange(fault.start, stop))._replace(values=values[1:])
    return _Course(course, fault._replace(start=0, end=fault.end - fault.start), calm.rows[fault.start])


def _look_for_calm(
    detector: Detector, series: Sequence[Series], config: KindsConfig, places: int, rng: Generator
) -> list[_Calm]:
    """Judge the series as they are. places: of each, at most, at which its row is kept."""
    pieces, wanted = [], []
    for one in series:
        known = one.key.encode() in detector.known
        piece = _warm(detector, one, config.readings) if known else one.select(_places(one)[: config.readings])
        first = -(-(SETTLED if known else config.cold) // GRID) * GRID
        possible = np.arange(first, len(piece.times_ms), GRID)
        wanted.append(set(rng.choice(possible, min(places, len(possible)), replace=False).tolist()))
        pieces.append(piece)
    rows = detector.rows_for([one.key.encode() for one in series])
    calm = [np.ones(len(one.times_ms), bool) for one in pieces]
    kept: list[dict[int, Rows]] = [{} for _ in pieces]
    for begin in range(0, max(map(len, calm)), GRID):
        for n, begins in enumerate(wanted):
            if begin in begins:
                kept[n][begin] = rows.take(torch.tensor([n]))
        part = slice(begin, begin + GRID)
        verdicts = judge_series(detector, [one.select(part) for one in pieces], rows)
        lengths = [len(one[part]) for one in calm]
        for n, alarm in enumerate(torch.split(verdicts.alarm, lengths)):
            calm[n][part] = ~alarm.numpy()
    return [_Calm(*one) for one in zip(pieces, calm, kept, strict=True)]


def _places(series: Series) -> Int64s:
    return np.arange(len(series.times_ms))


def _warm(detector: Detector, series: Series, readings: int) -> Series:
    """The last readings of a known stream, moved whole weeks ahead so that the detector takes them again."""
    piece = series.select(_places(series)[-readings:])
    clock = detector.known_rows.scalar("time_ms")[detector.known[series.key.encode()]]
    weeks = max(0, (int(clock) - int(piece.times_ms.min())) // WEEK_MS + 1)
    return piece._replace(times_ms=piece.times_ms + weeks * WEEK_MS)


def _go_through(
    detector: Detector,
    courses: Sequence[_Course],
    see: Callable[[_SeenStream], None],
    report_progress: Callable[[float], None],
) -> None:
    """One wave of all courses at a time, so that every state in between can be looked at."""
    if not courses:
        return
    lengths = np.array([len(course.series.times_ms) for course in courses])
    ends = np.array([course.fault.end for course in courses])
    rows = Rows(*map(torch.cat, zip(*(course.row for course in courses), strict=True)))
    for wave in range(int(lengths.max())):
        going = int((lengths > wave).sum())
        rows = Rows(*(column[:going] for column in rows))
        offsets = torch.arange(going) + wave * len(courses)
        times = torch.tensor([int(course.series.times_ms[wave]) for course in courses[:going]])
        values = torch.from_numpy(np.stack([course.series.values[wave] for course in courses[:going]]))
        verdicts, rows = detector.observe(Readings(offsets, times, values), pack(torch.arange(going)), rows)
        for change in verdicts.transitions:
            opened_at = change.opened_offset // len(courses)
            if opened_at < ends[change.reading] + STILL_ITS_ALARM:
                see(_look(detector, rows, change.reading, courses, change, opened_at))
        for course in np.flatnonzero(ends[:going] == wave + 1).tolist():
            see(_look(detector, rows, course, courses, None, -1))
        report_progress(wave / int(lengths.max()))


def _look(
    detector: Detector,
    rows: Rows,
    course: int,
    courses: Sequence[_Course],
    transition: Transition | None,
    opened_at: int,
) -> _SeenStream:
    symptoms = rows.symptoms[course].numpy()
    memory = rows.hidden[course, -1].double().numpy()
    guess = _head_of(detector).name(symptoms, memory)
    fault = courses[course].fault
    return _SeenStream(course, fault, transition, opened_at, guess, evidence_of(symptoms), memory)


def _head_of(detector: Detector) -> KindsHead:
    if detector.kinds is None:
        raise ValueError("the detector has no head that names kinds")
    return detector.kinds


# --- learning


class _HeadInTraining(nn.Module):
    """KindsHead while it is trained: evidence (N, F, D) and memory (N, H) -> logits (N, F, kinds)."""

    def __init__(self, hidden: int, config: KindsConfig) -> None:
        super().__init__()
        self.evidence = nn.Linear(EVIDENCE, config.units)
        self.memory = nn.Linear(hidden, config.units, bias=False)
        self.out = nn.Linear(config.units, len(KINDS))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, evidence: Tensor, memory: Tensor) -> Tensor:
        units: Tensor = self.evidence(evidence) + self.memory(self.dropout(memory)).unsqueeze(1)
        logits: Tensor = self.out(torch.relu(units))
        return logits


def _learn(seen: Sequence[_SeenStream], config: KindsConfig, seed: int) -> KindsHead:
    """Cross-entropy of the pair of a kind and a channel that has the fault; every kind has the same weight."""
    evidence = torch.from_numpy(np.stack([one.evidence for one in seen])).float()
    memory = torch.from_numpy(np.stack([one.memory for one in seen])).float()
    kind = torch.tensor([KINDS.index(one.fault.kind) for one in seen])
    faulty = torch.zeros(evidence.shape[:2], dtype=torch.bool)
    for n, one in enumerate(seen):
        faulty[n, list(one.fault.channels)] = True
    weight = 1 / torch.bincount(kind, minlength=len(KINDS)).float()[kind]
    centre, spread = evidence.mean((0, 1)), evidence.std((0, 1)).clamp(min=1e-3)
    shown = (evidence - centre) / spread

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = _HeadInTraining(memory.shape[1], config)
        optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        steps = config.epochs * -(-len(seen) // config.batch)
        lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(config.epochs):
            for some in torch.split(torch.randperm(len(seen)), config.batch):
                pairs = head(shown[some], memory[some]).flatten(1).log_softmax(1).unflatten(1, (-1, len(KINDS)))
                right = pairs.gather(2, kind[some, None, None].expand(-1, pairs.shape[1], 1)).squeeze(2)
                loss = -right.masked_fill(~faulty[some], -torch.inf).logsumexp(1)
                optimiser.zero_grad()
                ((loss * weight[some]).sum() / weight[some].sum()).backward()
                optimiser.step()
                lr_scheduler.step()
    return _kinds_head(head, centre, spread)


def _kinds_head(head: _HeadInTraining, centre: Tensor, spread: Tensor) -> KindsHead:
    """In float64, with the scaling of the evidence inside the weights."""
    weights = {name: weight.detach().double() for name, weight in head.named_parameters()}
    evidence = weights["evidence.weight"] / spread.double()
    bias = weights["evidence.bias"] - (evidence * centre.double()).sum(1)
    tensors = (evidence, weights["memory.weight"], bias, weights["out.weight"], weights["out.bias"])
    return KindsHead(*(tensor.numpy() for tensor in tensors))
