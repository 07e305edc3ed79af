"""The net that comes with Telltale: it was trained on no series that is judged here."""

import numpy as np
import pytest
import torch

from models.checkpoints.checkpoint import GENERIC, load_net
from models.data.families import families
from models.detection.judging import judge_series
from models.detection.numerics import check_steady
from models.training.generic import FEATURE, judge_generic

UNSEEN_SEED = 20_261_128


def test_it_is_small_enough_to_come_with_every_installation() -> None:
    assert GENERIC.stat().st_size < 300_000


@pytest.mark.slow
def test_it_expects_simulated_series_better_than_the_same_as_before() -> None:
    own, as_before = judge_generic(load_net((FEATURE,)).detector.forecaster, UNSEEN_SEED, 1_024)
    assert own < 0.88 * as_before


@pytest.mark.slow
def test_it_finds_the_pattern_of_series_of_families_that_it_was_not_trained_on() -> None:
    """Judged by the detector from the first reading on; the second half of each healthy series counts."""
    detector = load_net((FEATURE,)).detector
    ratios: dict[str, float] = {}
    for one in families((FEATURE,), 1, seed=1, readings=4_000):
        if one.fault is None:
            expected = judge_series(detector, [one.series], detector.rows_for([b"new"])).expected[:, 0].numpy()
            values, half = one.series.values[:, 0], slice(2_000, None)
            off, moved = np.abs(values - expected)[half], np.abs(np.diff(values, prepend=values[0]))[half]
            ratios[one.family] = float(off.mean() / moved.mean())
    assert np.mean(list(ratios.values())) < 0.95, ratios
    assert max(ratios.values()) < 1.15, ratios


@pytest.mark.slow
def test_its_bits_do_not_depend_on_the_batch() -> None:
    assert torch.get_num_threads() == 1
    check_steady(load_net(("flow", "pressure")).detector.forecaster)
