import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.net.packing import Waves, pack

MANY = settings(max_examples=100, deadline=None)
BATCHES = st.lists(st.integers(0, 12), min_size=1, max_size=120)


def packed(slots: list[int]) -> Waves:
    return pack(torch.tensor(slots))


def by_stream(slots: list[int]) -> dict[int, list[int]]:
    """Where each stream's readings stand in the batch, found by a plain loop."""
    places: dict[int, list[int]] = {}
    for place, slot in enumerate(slots):
        places.setdefault(slot, []).append(place)
    return places


@MANY
@given(BATCHES)
def test_every_reading_is_in_exactly_one_run(slots: list[int]) -> None:
    readings = [n for run in packed(slots).runs for n in run.readings.flatten().tolist()]
    assert sorted(readings) == list(range(len(slots)))


@MANY
@given(BATCHES)
def test_wave_k_holds_every_streams_kth_reading(slots: list[int]) -> None:
    waves = packed(slots)
    places = by_stream(slots)
    numbered = [wave for run in waves.runs for wave in run.readings.tolist()]
    for k, wave in enumerate(numbered):
        busy = [slot for slot in waves.slots.tolist() if len(places[slot]) > k]
        assert wave == [places[slot][k] for slot in busy]
    assert len(numbered) == max(map(len, places.values()))


@MANY
@given(BATCHES)
def test_runs_hold_the_first_streams_and_each_ones_readings_in_order(slots: list[int]) -> None:
    waves = packed(slots)
    walked: dict[int, list[int]] = {}
    for run in waves.runs:
        for wave in run.readings.tolist():
            for slot, reading in zip(waves.slots.tolist(), wave, strict=False):
                walked.setdefault(slot, []).append(reading)
    assert walked == by_stream(slots)


@MANY
@given(BATCHES)
def test_streams_with_most_readings_come_first(slots: list[int]) -> None:
    waves = packed(slots)
    counts = [len(by_stream(slots)[slot]) for slot in waves.slots.tolist()]
    assert counts == sorted(counts, reverse=True)
    assert sorted(waves.slots.tolist()) == sorted(set(slots))


@MANY
@given(BATCHES)
def test_streams_say_whose_each_reading_is(slots: list[int]) -> None:
    waves = packed(slots)
    assert waves.slots[waves.streams].tolist() == slots


@MANY
@given(BATCHES)
def test_there_are_as_many_runs_as_distinct_numbers_of_readings(slots: list[int]) -> None:
    waves = packed(slots)
    assert len(waves.runs) == len({len(places) for places in by_stream(slots).values()})
    assert all(run.readings.numel() for run in waves.runs)


@MANY
@given(BATCHES, st.integers(1, 2**40))
def test_only_the_order_of_slots_matters_not_their_numbers(slots: list[int], stride: int) -> None:
    one, other = packed(slots), packed([slot * stride for slot in slots])
    assert torch.equal(one.slots * stride, other.slots)
    assert torch.equal(one.streams, other.streams)
    for run, same in zip(one.runs, other.runs, strict=True):
        assert torch.equal(run.readings, same.readings)


def test_a_single_reading_is_one_wave_of_one_stream() -> None:
    waves = packed([41])
    assert waves.slots.tolist() == [41]
    assert waves.streams.tolist() == [0]
    assert [run.readings.tolist() for run in waves.runs] == [[[0]]]


def test_one_stream_is_one_run_a_reading_a_wave() -> None:
    waves = packed([5] * 300)
    assert waves.slots.tolist() == [5]
    assert [run.readings.tolist() for run in waves.runs] == [[[n] for n in range(300)]]


def test_streams_of_one_reading_each_are_one_wave() -> None:
    waves = packed([9, 2, 4, 7])
    assert sorted(waves.slots.tolist()) == [2, 4, 7, 9]
    assert [tuple(run.readings.shape) for run in waves.runs] == [(1, 4)]


def test_an_example_by_hand() -> None:
    waves = packed([3, 8, 3, 5, 8, 3])  # 3: 0 2 5   8: 1 4   5: 3
    assert waves.slots.tolist() == [3, 8, 5]
    assert waves.streams.tolist() == [0, 1, 0, 2, 1, 0]
    assert [run.readings.tolist() for run in waves.runs] == [[[0, 1, 3]], [[2, 4]], [[5]]]
