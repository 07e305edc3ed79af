"""The row of damaged pages: who is lost is known exactly, and no one else is touched. On the log in memory."""

import random
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from models.checkpoints import checkpoint
from models.checkpoints.checkpoint import Checkpoint
from service.host import log_lines
from service.input.notices import STATE_LOST
from service.log.memory_log import Topics
from service.log.port import Partition, Record
from service.state.changelog import Collected, Layout, page_record, read_marker, read_page
from service.state.changelog_keys import Origin, page_key, roster_key
from service.state.slab import Page
from tests.faults import oracle, plant
from tests.faults.memory import GROUP, Incarnation, filled, undisturbed
from tests.faults.oracle import Differences, Expected
from tests.faults.scene import TTL_S

HERE = Partition("readings", 0)
ORIGIN = Origin(GROUP, HERE)
STREAMS = 900  # at a time
BEFORE, AFTER = 4_000, 400  # readings before and after the damage
VERSION_AT = 4  # in a page's bytes
LOSING = ("flipped bits", "cut short", "another version", "another page's", "another group's", "deleted")
HARMLESS = ("another model", "foreign keys", "roster")
KINDS = (*LOSING, *HARMLESS)


class _Before(NamedTuple):
    """Where every case begins: a partition with pages, some of them behind by a few readings."""

    loaded: Checkpoint
    topics: Topics
    pages: dict[int, Page]
    wanted: Expected  # of all readings, those after the damage too
    published: int  # anomalies until then


def run(orders: Mapping[str, Any]) -> int:
    """orders: checkpoint, seed, numbers (of the cases); `into`: a file."""
    log_lines.configure("ERROR", "json")
    torch.set_num_threads(1)
    before = _before(checkpoint.load(Path(orders["checkpoint"])), orders["seed"])
    differences, happened = Differences(), Counter[str]()
    for number in orders["numbers"]:
        kind = KINDS[number % len(KINDS)]
        happened[kind] += 1
        found = _case(before, kind, random.Random(f"{orders['seed']}/{number}"))
        found.other = [f"case {number}, {kind}: {one}" for one in found.other]
        differences.add(found)
    Path(orders["into"]).write_bytes(msgspec.json.encode({"differences": differences, "happened": happened}))
    return 0


def _before(loaded: Checkpoint, seed: int) -> _Before:
    records = list(islice(plant.records(seed, 0, STREAMS), BEFORE + AFTER))
    wanted = undisturbed(loaded, filled({HERE: records}), HERE, TTL_S)
    topics = filled({HERE: records})
    worker = Incarnation(loaded, topics, TTL_S, flush_s=5.0)
    while topics.committed.get(HERE, 0) < BEFORE or not _is_behind(worker):
        last = topics.committed.get(HERE, 0) >= BEFORE
        worker.clock.now_s += 0.0 if last else 0.1  # no page is due any more: the last readings are in none
        worker.turn(1 if last else 15)
    collected = Collected(ORIGIN)
    collected.add(*zip(*((r.key, r.value) for r in topics.changelog[HERE]), strict=True))
    marker = read_marker(ORIGIN, collected.marker or b"")
    layout = Layout.of(loaded.digest, loaded.detector.rows_for([]))
    pages = {number: read_page(collected, layout, number) for number in range(marker.pages)}
    whole = {number: page for number, page in pages.items() if isinstance(page, Page)}
    assert len(whole) == len(pages) > 3
    return _Before(loaded, topics, whole, wanted, len(topics.anomalies[HERE]))


def _is_behind(worker: Incarnation) -> bool:
    """Whether a few readings would have to be judged again."""
    task = worker.worker._tasks[HERE]
    return task.replay_from is not None and task.next_offset is not None and task.next_offset - task.replay_from > 5


def _case(before: _Before, kind: str, chance: random.Random) -> Differences:
    damaged = chance.sample(sorted(before.pages), chance.randrange(1, 4))
    topics = _copy(before.topics)
    topics.changelog[HERE] += [record for n in damaged for record in _damage(before, kind, n, chance)]
    worker = Incarnation(before.loaded, topics, TTL_S)
    while topics.committed[HERE] != BEFORE + AFTER:
        worker.turn(chance.randrange(50, 500))
    new = topics.anomalies[HERE][before.published :]
    notices = [message["data"] for record in new if (message := _notice(record)) is not None]
    streams = {key for number in damaged for key in before.pages[number].keys}
    differences = Differences()
    lost = Counter(notice["stream"] for notice in notices)
    if lost != Counter(key.decode() for key in streams if kind in LOSING):
        differences.other.append(f"{sum(lost.values())} streams reported lost, {len(streams)} were in pages {damaged}")
    touched = streams if kind != "foreign keys" and kind != "roster" else set()
    state = oracle.state_of(worker.worker._tasks[HERE].slab)
    differences.state = sum(
        state.get(key) != row for key, row in before.wanted.state.items() if key not in touched
    ) + sum(key not in before.wanted.state for key in state)
    differences.different = _other_neighbours(before, [r for r in new if _notice(r) is None], touched)
    return differences


def _other_neighbours(before: _Before, new: list[Record], touched: set[Any]) -> int:
    """How many records of streams that were not touched are not what they should be."""
    wanted = [one for one in before.wanted.anomalies[before.published :] if one[0] not in touched]
    found = [one for record in new if (one := oracle.published(record))[0] not in touched]
    return abs(len(wanted) - len(found)) + sum(a != b for a, b in zip(wanted, found, strict=False))


def _damage(before: _Before, kind: str, number: int, chance: random.Random) -> list[Record]:
    """What is found in the changelog instead."""
    loaded, pages = before.loaded, before.pages
    layout = Layout.of(loaded.digest, loaded.detector.rows_for([]))
    key = page_key(ORIGIN, number)
    value = bytearray(page_record(ORIGIN, layout, pages[number]).value or b"")
    if kind == "flipped bits":
        for _ in range(chance.randrange(1, 9)):
            value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    elif kind == "cut short":
        del value[chance.randrange(len(value)) :]
    elif kind == "another version":
        value[VERSION_AT] += chance.randrange(1, 100)
    elif kind == "another page's":
        other = chance.choice([n for n in pages if n != number])
        value[:] = page_record(ORIGIN, layout, pages[other]).value or b""
    elif kind == "another group's":
        value[:] = page_record(Origin("others", HERE), layout, pages[number]).value or b""
    elif kind == "deleted":
        return [Record(key, None)]
    elif kind == "another model":
        value[:] = page_record(ORIGIN, Layout("f" * 64, layout.shapes), pages[number]).value or b""
    elif kind == "roster":
        return [Record(roster_key(ORIGIN, number), bytes(chance.randrange(256) for _ in range(chance.randrange(90))))]
    else:
        foreign = (
            None,
            b"",
            b"\xff\xfe",
            b"readings/page/x/faults",
            b"other/page/0/faults",
            page_key(Origin("g", HERE), 0),
        )
        return [Record(chance.choice(foreign), bytes(value[: chance.randrange(len(value))]) or None)]
    return [Record(key, bytes(value))]


def _copy(topics: Topics) -> Topics:
    """The same cluster once more; records themselves do not change."""
    copy = Topics({HERE.topic: 1})
    copy._records = topics._records
    copy.committed.update(topics.committed)
    for name in ("anomalies", "dead_letters", "changelog"):
        getattr(copy, name)[HERE] = list(getattr(topics, name)[HERE])
    return copy


def _notice(record: Record) -> dict[str, Any] | None:
    if not (record.value or b"").startswith(b"{"):
        return None
    message: dict[str, Any] = msgspec.json.decode(record.value or b"")
    return message if message["type"] == STATE_LOST else None
