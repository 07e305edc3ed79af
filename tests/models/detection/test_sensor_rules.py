"""What rules say of sensors: which of them hold, and which values they make missing ones."""

import math
from pathlib import Path

import numpy as np
import pytest

from models.data.arrays import Doubles
from models.data.series import Series
from models.detection.sensor_rules import Excluded, SensorRule, SensorRules, Span, digest_of

FEATURES = ("temperature", "pressure", "flow")
NAN = math.nan


def cleaned(rules: list[SensorRule], values: list[list[float]], stream: bytes = b"pump") -> Doubles:
    return SensorRules(rules, FEATURES).clean(np.array(values, np.float64), [stream] * len(values))[0]


def same(found: Doubles, expected: list[list[float]] | Doubles) -> bool:
    return np.array_equal(found, np.array(expected), equal_nan=True)


def test_of_each_thing_the_first_rule_holds_that_says_it_of_the_channel() -> None:
    rules = SensorRules(
        [
            SensorRule("line-03/*", ("temperature",), valid_range=Span(-40, 150)),
            SensorRule("line-03/*", unit="bar"),
            SensorRule("*", ("temp*",), bad_values=(-1.0,), valid_range=Span(0, 10), unit="°C"),
            SensorRule(bad_values=(65535.0,)),
        ],
        FEATURES,
    )
    oven, other = rules.of(b"line-03/oven"), rules.of(b"mill")
    assert oven.low.tolist() == [-40, -math.inf, -math.inf]
    assert oven.units == ("bar", "bar", "bar")
    assert other.high.tolist() == [10, math.inf, math.inf]
    assert other.units == ("°C", None, None)
    for found in (oven, other):
        assert [sorted(row[~np.isnan(row)]) for row in found.bad_values] == [[-1.0], [65535.0], [65535.0]]


def test_a_rule_further_up_takes_back_what_one_further_down_says() -> None:
    general = SensorRule(bad_values=(0.0,), valid_range=Span(0, 5))
    takes_back = SensorRule("pump", bad_values=(), valid_range=Span())
    assert same(cleaned([takes_back, general], [[0, 9, -1]]), [[0, 9, -1]])
    assert same(cleaned([general, takes_back], [[0, 9, 1]]), [[NAN, NAN, 1]])


@pytest.mark.parametrize(
    ("pattern", "stream", "matches"),
    [
        ("line-03/*", "line-03/a/b", True),
        ("line-03/*", "line-031/a", False),
        ("line-0?", "line-07", True),
        ("line-0[1-3]", "line-04", False),
        ("oven [north]", "oven [north]", True),  # a name with the signs of a pattern in it
        ("LINE", "line", False),
    ],
)
def test_patterns_are_those_of_a_shell_and_a_name_matches_itself(pattern: str, stream: str, matches: bool) -> None:
    assert SensorRule(pattern).is_of(stream) is matches


def test_both_ends_of_a_range_are_valid_and_missing_values_stay_missing() -> None:
    rules = [SensorRule(valid_range=Span(-40, 150))]
    below, above = np.nextafter(-40, -41), np.nextafter(150, 151)
    assert same(cleaned(rules, [[-40, 150, NAN], [below, above, 0]]), [[-40, 150, NAN], [NAN, NAN, 0]])


def test_a_bad_value_is_known_in_single_precision_too() -> None:
    single = float(np.float32(-9999.9))
    assert single != -9999.9
    assert same(cleaned([SensorRule(bad_values=(-9999.9,))], [[single, -9999.9, -9999.0]]), [[NAN, NAN, -9999.0]])


def test_values_are_counted_by_reason_each_once() -> None:
    rules = SensorRules([SensorRule(bad_values=(65535.0,), valid_range=Span(0, 100))], FEATURES)
    values = np.array([[65535.0, 101.0, 5.0], [1.0, 2.0, 3.0], [NAN, -1.0, -1.0]])
    found, counts = rules.clean(values, [b"a", b"b", b"c"])
    assert counts is not None
    assert counts.tolist() == [[1, 1], [0, 0], [0, 2]]
    assert tuple(Excluded) == ("bad_value", "out_of_range")
    assert values[0, 0] == 65535, "what came in must stay as it was"
    assert same(found, [[NAN, NAN, 5], [1, 2, 3], [NAN, NAN, NAN]])


def test_where_nothing_is_excluded_the_very_values_come_back() -> None:
    rules = SensorRules([SensorRule("other", valid_range=Span(0, 1))], FEATURES)
    values = np.array([[5.0, 6.0, 7.0]])
    found, counts = rules.clean(values, [b"pump"])
    assert found is values
    assert counts is None
    assert not SensorRules([SensorRule(unit="bar")], FEATURES).excludes


def one_by_one(rules: list[SensorRule], values: Doubles, streams: list[bytes]) -> Doubles:
    """The oracle: each value by itself, straight from what the rules say."""
    expected = values.copy()
    for n, stream in enumerate(streams):
        for f, channel in enumerate(FEATURES):
            mine = [rule for rule in rules if rule.is_of(stream.decode()) and rule.says_of(channel)]
            bad = next((rule.bad_values for rule in mine if rule.bad_values is not None), ())
            span = next((rule.valid_range for rule in mine if rule.valid_range is not None), Span())
            if values[n, f] in bad or values[n, f] < span.low or values[n, f] > span.high:
                expected[n, f] = NAN
    return expected


@pytest.mark.parametrize("seed", range(20))
def test_many_streams_at_once_are_cleaned_as_each_value_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    patterns = ("*", "a*", "b?", "b1", "[ab]2")
    rules = [
        SensorRule(
            str(random.choice(patterns)),
            tuple(random.choice([*FEATURES, "*"], size=2).tolist()),
            None if random.random() < 0.4 else tuple(map(float, random.integers(0, 9, random.integers(0, 3)))),
            None if random.random() < 0.4 else Span(float(random.integers(0, 4)), float(random.integers(4, 9))),
        )
        for _ in range(random.integers(1, 6))
    ]
    values = random.integers(0, 9, (200, 3)).astype(float)
    values[random.random(values.shape) < 0.1] = NAN
    streams = [str(name).encode() for name in random.choice(["a1", "a2", "b1", "b2", "c"], 200)]
    expected = one_by_one(rules, values, streams)
    found, counts = SensorRules(rules, FEATURES).clean(values, streams)
    assert same(found, expected)
    excluded = int(np.isnan(expected).sum() - np.isnan(values).sum())
    assert (0 if counts is None else counts.sum()) == excluded
    for name in set(streams):
        mine = np.array([stream == name for stream in streams])
        one = Series(
            name.decode(), Path("a.csv"), FEATURES, np.arange(mine.sum()), np.arange(mine.sum()), values[mine], mine
        )
        SensorRules(rules, FEATURES).clean_series([one])
        assert same(one.values, expected[mine])


def test_the_digest_is_that_of_what_verdicts_depend_on() -> None:
    rule = SensorRule("a*", ("flow",), (65535.0,), Span(0, 1), "bar")
    assert digest_of([rule]) == digest_of([SensorRule("a*", ("flow",), (65535.0,), Span(0, 1), "psi")])
    assert digest_of([rule, SensorRule(unit="m")]) == digest_of([rule])
    others = [
        SensorRule("b*", ("flow",), (65535.0,), Span(0, 1)),
        SensorRule("a*", ("f*",), (65535.0,), Span(0, 1)),
        SensorRule("a*", ("flow",), (65534.0,), Span(0, 1)),
        SensorRule("a*", ("flow",), (65535.0,), Span(0, 2)),
        SensorRule("a*", ("flow",), (), Span(0, 1)),
        *(SensorRule(time_zone=zone) for zone in ("Europe/Berlin", "Asia/Tokyo")),
    ]
    assert len({digest_of([one]) for one in (rule, *others)}) == 8
    assert digest_of([SensorRule(unit="m")]) == digest_of([]) == ""


def test_a_rule_whose_channels_no_feature_matches_is_found() -> None:
    rules = [SensorRule(channels=("temp*",), unit="°C"), SensorRule(channels=("Flow", "level"), unit="m")]
    assert SensorRules(rules, FEATURES).without_channels() == [1]
