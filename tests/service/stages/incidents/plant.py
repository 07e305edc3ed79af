"""Anomalies of a plant as a worker writes them, and the incidents that a calm stage would make of them."""

import random
from collections.abc import Mapping, Sequence
from typing import TypedDict

import msgspec

from models.data.rfc3339 import rfc3339
from service.log.port import Record
from service.stages.incidents.book import IncidentBook
from service.stages.incidents.budget import Budget
from service.stages.incidents.changes import read_change
from service.stages.incidents.consumed import CONTROLS, runs_of
from service.stages.incidents.controls import (
    LABELS,
    Acknowledgement,
    Control,
    Dependency,
    GivenControl,
    Label,
    Quiet,
    control_record,
    read_control,
)
from service.stages.incidents.events import CONTROL_APPLIED, decode_incident, decode_lost, encode_incident
from service.stages.incidents.label_rules import Example
from service.stages.incidents.rules import IncidentRules
from tests.records import headers_of

NOW_MS = 1_700_000_000_000
RULES = IncidentRules(expire_ms=86_400_000)
PER_DAY, GROUP_PER_DAY = 20, 16


def new_book() -> IncidentBook:
    return IncidentBook(RULES, Budget(PER_DAY, group_per_day=GROUP_PER_DAY))


def anomaly_record(
    stream: str,
    change: str,
    at_s: float,
    since_s: float,
    severity: str,
    n: int = 0,
    return_period_s: float = 86_400.0,
) -> Record:
    time = rfc3339(NOW_MS + round(1000 * at_s))
    data = {
        "anomaly": f"{stream}#{n}",
        "stream": stream,
        "status": "closed" if change == "closed" else "open",
        "severity": severity,
        "kind": "prediction",
        "score": 1.2,
        "peak": 1.7,
        "opened_at": rfc3339(NOW_MS + round(1000 * since_s)),
        "return_period_s": return_period_s,
        "channels": [{"name": "flow", "share": 0.2}, {"name": "vibration", "share": 0.8, "observed": 3.0}],
        "more": {"that": "incidents do not need"},
    }
    event = {
        "specversion": "1.0",
        "id": f"{stream}/{n}/{at_s}",
        "source": "/telltale/plant",
        "type": f"telltale.anomaly.{change}",
        "subject": stream,
        "time": time,
        "data": data,
    }
    return Record(stream.encode(), msgspec.json.encode(event), (), NOW_MS + round(1000 * at_s))


def plant_anomalies(count: int, partitions: int, seed: int = 0) -> list[list[Record]]:
    """By partition, each in the order of its readings: some by chance, and a storm over all partitions every day."""
    chance = random.Random(seed)
    found: list[list[tuple[float, Record]]] = [[] for _ in range(partitions)]

    def add(stream: str, began_s: float, lasts_s: float, n: int) -> None:
        severity, into = chance.choice(("minor", "minor", "major", "critical")), found[hash_of(stream) % partitions]
        into.append((began_s, anomaly_record(stream, "opened", began_s, began_s, "minor", n)))
        if severity != "minor":
            at_s = began_s + lasts_s / 3
            into.append((at_s, anomaly_record(stream, "updated", at_s, began_s, severity, n)))
        if chance.random() < 0.97:
            ends_s = began_s + lasts_s
            into.append((ends_s, anomaly_record(stream, "closed", ends_s, began_s, severity, n)))

    for n in range(count):
        stream = f"site/line-{chance.randrange(4)}/m{chance.randrange(9)}/s{chance.randrange(5)}"
        add(stream, chance.random() * 3 * 86_400, chance.expovariate(1 / 500), n)
    for day in range(3):
        for n in range(count // 20):
            add(f"site/line-9/m{n // 5}/s{n % 5}", day * 86_400 + 40_000 + chance.random() * 50, 900, count + day)
    return [[record for _, record in sorted(one, key=lambda pair: pair[0])] for one in found]


def hash_of(stream: str) -> int:
    return sum(stream.encode())


def of_one_stream(records: Sequence[Record]) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in records]


def plant_controls(seed: int = 0) -> list[Record]:
    """Of each type some, with replacements, some that are taken back, and some that are about nothing there is."""
    day_s, chance = 86_400, random.Random(seed)
    said = who("anna")
    found: list[tuple[str, Control | None]] = [
        ("overhaul", Quiet(streams=["site/line-1/*"], reason="overhaul", until=time_at(day_s), **said)),
        ("drive", Dependency(streams=["site/line-2/*"], on=["site/line-2/m0/*"], reason="stands", learn=True, **said)),
        ("span", Label(label="known", streams=["*/m3/*"], begins=time_at(day_s), until=time_at(2 * day_s), **said)),
        ("no-such-control", None),
        ("nightly", Quiet(streams=["*/s4"], reason="nightly", cron="0 6 * * *", lasts_s=7_200, **said)),
        ("overhaul", Quiet(streams=["site/line-1/*"], reason="overhaul", until=time_at(2 * day_s), **said)),
    ]
    for n in range(30):
        stream = f"site/line-{chance.randrange(4)}/m{chance.randrange(9)}/s{chance.randrange(5)}"
        anomaly = f"{stream}#{n}"
        found.append((f"label-{n % 20}", Label(label=chance.choice(LABELS), anomaly=anomaly, **said)))
    streams = [f"site/line-{line}/m{machine}/s0" for line in (0, 3) for machine in range(9)]
    alike = [Example(stream, "prediction", "vibration", "major", time_at(0)) for stream in streams]
    streams = [f"site/line-2/m{machine}/s{n}" for machine in range(9) for n in range(5)]
    often = [Example(stream, "level", "flow", "critical", time_at(0), 50_000.0) for stream in streams]
    found += [(f"often-{n}", Label(label="normal", anomaly=f"often-{n}", examples=often, **said)) for n in range(2)]
    found.append(("rules", Label(label="normal", anomaly="a", rule="always", examples=alike, **said)))
    found += [(name, None) for name in ("drive", "label-3", "nightly")]
    return [control_record(name, control)._replace(time_ms=NOW_MS + n) for n, (name, control) in enumerate(found)]


def acknowledgements(published: Sequence[Record]) -> list[Record]:
    """Of the latest incidents that are open; the first is taken back, and one is of an incident that there never was.

    published: all that is on the topic of incidents.
    """
    about = {one.key: one for one in published if msgspec.json.decode(one.value or b"")["type"] != CONTROL_APPLIED}
    latest = [decode_incident(one.value or b"").data for one in about.values()][-200:]
    names = [*(one.incident for one in latest if one.status == "open"), "no-such-incident"]
    said = who("ben")
    found = [control_record(f"seen-{n}", Acknowledgement(incident=name, **said)) for n, name in enumerate(names)]
    return [one._replace(time_ms=NOW_MS) for one in (*found, control_record("seen-0", None))]


class Who(TypedDict):
    """By whom and when a control was said."""

    by: str
    at: str


def who(name: str) -> Who:
    return Who(by=name, at=time_at(0))


def time_at(at_s: float) -> str:
    return rfc3339(NOW_MS + round(1000 * at_s))


def calm(
    published: Sequence[Record], anomalies: Mapping[int, Sequence[Record]], controls: Sequence[Record] = ()
) -> list[tuple[bytes, bytes]]:
    """What a stage that nothing disturbs publishes of these records, taken in the order that `published` says.

    Fails where that order leaves one out, or has one twice. Where incidents were lost it begins again, with all
    controls; which anomalies are left out there, no event says.
    """
    book, expected, taken = new_book(), list[Record](), dict.fromkeys((CONTROLS, *anomalies), 0)
    is_known = dict.fromkeys(taken, True)
    for record in published:
        if (lost := decode_lost(record.value or b"")) is not None:
            book, taken[CONTROLS], is_known = new_book(), 0, {**dict.fromkeys(anomalies, False), CONTROLS: True}
            book.life = lost.id
            expected.append(record)
            continue
        consumed = headers_of(record).get("telltale-consumed", b"").decode()
        for run in runs_of(consumed):
            in_order = (
                run.first == taken[run.partition] if is_known[run.partition] else run.first >= taken[run.partition]
            )
            assert in_order, f"{run} after {taken[run.partition]} records"
            is_known[run.partition] = True
            taken[run.partition] = run.last + 1
            if run.partition == CONTROLS:
                for offset in range(run.first, run.last + 1):
                    key, value, _, time_ms = controls[offset]
                    given = GivenControl(*read_control(key, value), offset, time_ms or 0)
                    expected += [encode_incident(event) for event in book.apply(given)]
                continue
            for anomaly in anomalies[run.partition][run.first : run.last + 1]:
                change = read_change(anomaly.value)
                assert change is not None
                expected += [encode_incident(event) for event in book.observe(change)]
    return [(record.key or b"", record.value or b"") for record in expected]
