"""A trained model for the commands."""

from pathlib import Path

import pytest

from tests.command_line import command_line


@pytest.fixture(scope="module")
def checkpoint(plant: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "plant.safetensors"
    with command_line() as telltale:
        telltale.does("train", "--data", plant, "--out", path, "--hidden", 16, "--epochs", 1)
    return path
