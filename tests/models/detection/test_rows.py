"""What a row holds, field by field, and under which names it is stored."""

from zlib import crc32

import pytest
import torch

from models.detection.kinds import SYMPTOMS, VOTES
from models.detection.rows import CHANNELS, RELATIONS, SCALARS, fresh
from models.net.forecaster import ForecasterConfig

TABLES = (CHANNELS, SCALARS, SYMPTOMS, VOTES, RELATIONS)


def test_a_change_of_the_names_that_checkpoints_and_changelogs_hold_is_on_purpose() -> None:
    """With other names, what they hold means something else: streams begin again, and the changelog says so."""
    assert crc32(repr(tuple(table.stored_names for table in TABLES)).encode()) == 3138966856


def test_a_fresh_row_holds_what_the_table_says() -> None:
    rows = fresh(3, ForecasterConfig(("a", "b"), hidden=16))
    for field in CHANNELS.fields:
        assert (rows.channel(field.name) == torch.full((3, 2), field.initial, dtype=torch.float64)).all(), field.name
    for field in SCALARS.fields:
        assert (rows.scalar(field.name) == field.initial).all(), field.name


def test_a_field_by_name_is_a_view_of_the_row() -> None:
    rows = fresh(2, ForecasterConfig(("a",), hidden=16))
    rows.scalar("age")[1] = 7
    rows.channel("mean")[0] = 3
    assert rows.scalars[1, 0] == 7
    assert rows.channels[0, 1, 0] == 3


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError):
        fresh(1, ForecasterConfig(("a",), hidden=16)).scalar("tilt")


def test_no_two_fields_of_a_row_have_the_same_name() -> None:
    for both in ((CHANNELS, SYMPTOMS), (SCALARS, VOTES)):
        names = [field.name for table in both for field in table.fields]
        assert len(names) == len(set(names))
