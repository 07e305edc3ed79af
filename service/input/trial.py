"""A few records of a topic, read on trial: the mapping that they need, and what comes out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from service.input.formats import RecordRules, TopicMapping
from service.input.guess import Guess, guess
from service.input.mapping import mapped_left_out, mapped_names
from service.input.names import left_out_of, names_in
from service.input.reading_batch import ReadingBatch
from service.input.registry import Registry
from service.input.rejects import Reject
from service.input.wire import Decoder
from service.log.port import Fetched

MOST_TRIED = 3
MOST_LOOKED_AT = 100  # records, for what is left out of them
NOTHING: Mapping[str, str] = MappingProxyType({})


class Trial(NamedTuple):
    """What was found.

    settings: of `input.topics.TOPIC`; None: the topic needs no mapping, or has one, or none is known to read it.
    """

    what: str
    settings: Guess | None
    features: tuple[str, ...]
    batch: ReadingBatch
    rejects: list[Reject]
    joined: Guess | None = None  # the mapping whose metrics `telltale rekey` joins, of records of one metric each
    metrics: tuple[str, ...] = ()  # of these
    left_out: Mapping[str, str] = NOTHING  # what stands among the values and is no feature, by name: what it is


def try_records(
    fetched: Fetched, rules: RecordRules, bounds_ms: tuple[int, int], features: Sequence[str] = ()
) -> Trial:
    """Read records as the service would, by the topic's mapping or by the one that most of them seem to need.

    bounds_ms: how far a reading may be ahead of its record and behind it. features: empty: those found.
    """
    topic = fetched.partition.topic
    if (mapping := rules.mappings.get(topic)) is not None:
        return _tried(fetched, rules, bounds_ms, tuple(features) or _names(fetched, mapping), "the mapping that is set")
    plain = _tried(fetched, rules, bounds_ms, tuple(features) or _names(fetched, None), "Telltale's own form")
    guesses = list(_guesses(fetched, rules.registry))
    of_yaml = {one.yaml: one for one in guesses}
    best = plain
    for yaml, _ in Counter(one.yaml for one in guesses).most_common(MOST_TRIED):
        guessed = of_yaml[yaml]
        mapping = guessed.mapping(topic, rules.registry)
        if mapping is None:
            continue
        names = tuple(features) or _names(fetched, mapping)
        tried = _tried(fetched, rules._replace(mappings={topic: mapping}), bounds_ms, names, guessed.what)
        # Of none that reads anything the guess is told: its reasons say more.
        if len(tried.rejects) < len(best.rejects) or (best is plain and not (plain.batch.keys or tried.batch.keys)):
            best = tried._replace(settings=guessed)
    if best is plain and not plain.batch.keys and not any(fetched.keys):
        # That they have no key, as none of a file has, is not all that is to be said.
        named = fetched._replace(keys=[topic.encode()] * len(fetched.keys))
        best = plain._replace(
            rejects=_tried(named, rules, bounds_ms, plain.features, plain.what).rejects or plain.rejects
        )
    return _with_metrics(fetched, rules, best)


def _with_metrics(fetched: Fetched, rules: RecordRules, tried: Trial) -> Trial:
    """What it says besides of records of one metric each, if there are several metrics in them."""
    joined = None if tried.settings is None else tried.settings.joined
    mapping = None if joined is None else joined.mapping(fetched.partition.topic, rules.registry)
    metrics = () if mapping is None else _names(fetched, mapping)
    return tried._replace(joined=joined, metrics=metrics) if len(metrics) > 1 else tried


def _guesses(fetched: Fetched, registry: Registry | None) -> Iterator[Guess]:
    for key, value in zip(fetched.keys, fetched.values, strict=True):
        if value is not None and (found := guess(key, value, (), registry)) is not None:
            yield found


def _tried(
    fetched: Fetched, rules: RecordRules, bounds_ms: tuple[int, int], features: tuple[str, ...], what: str
) -> Trial:
    ahead_ms, behind_ms = bounds_ms
    batch, rejects = Decoder(features, ahead_ms, behind_ms, rules).decode(fetched)
    left_out, mapping = dict[str, str](), rules.mappings.get(fetched.partition.topic)
    for value in filter(None, fetched.values[:MOST_LOOKED_AT]):
        of_one = left_out_of(value, features) if mapping is None else mapped_left_out(mapping, value, features)
        left_out = {**of_one, **left_out}
    return Trial(what, None, features, batch, rejects, left_out=left_out)


def _names(fetched: Fetched, mapping: TopicMapping | None) -> tuple[str, ...]:
    """The features that most of the records have; of records of one metric each those of all."""
    values = [value for value in fetched.values if value is not None]
    if mapping is not None and mapping.metric is not None:
        return tuple(dict.fromkeys(name for value in values for name in mapped_names(mapping, value))) or ("value",)
    found = Counter(names_in(value) if mapping is None else mapped_names(mapping, value) for value in values)
    del found[()]
    return found.most_common(1)[0][0] if found else ("value",)
