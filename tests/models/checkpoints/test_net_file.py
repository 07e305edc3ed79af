"""A net file: the weights of a net that reads one channel and knows no stream."""

from pathlib import Path

import pytest
import torch

from models.checkpoints.checkpoint import GENERIC, is_net, load, load_net, open_checkpoint, save, save_net
from models.checkpoints.checkpoint_header import TrainingData, TrainingMetrics, UnusableCheckpoint
from models.detection.detector import Detector
from models.net.forecaster import Forecaster
from tests.data import fine_forecaster
from tests.models.checkpoints.test_checkpoint import described, some_detector

DATA = TrainingData(files=0, streams=3, readings=500, first_ms=0, last_ms=0)
METRICS = TrainingMetrics(
    epochs=3, best_epoch=3, loss=None, validation_loss=0.2, persistence_loss=0.3, seconds=1.5, ended="epochs"
)


def saved(path: Path, net: Forecaster) -> str:
    return save_net(path, net, "2026-01-31T23:59:00Z", {"seed": 0}, DATA, METRICS)


def test_a_net_of_one_channel_comes_back_for_any_channels(tmp_path: Path) -> None:
    net = fine_forecaster(1, channelwise=True)
    saved(tmp_path / "net", net)
    assert is_net(tmp_path / "net")
    loaded = load_net(("flow", "pressure"), tmp_path / "net")
    assert loaded.detector.features == ("flow", "pressure")
    assert not loaded.detector.known
    assert loaded.description.architecture.time_zone == "Europe/Berlin"
    weights = loaded.detector.forecaster.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in net.state_dict().items())


def test_its_digest_is_of_the_file_and_the_channels(tmp_path: Path) -> None:
    saved(tmp_path / "net", fine_forecaster(1, channelwise=True))
    one, again, other = (load_net(names, tmp_path / "net").digest for names in (("a", "b"), ("a", "b"), ("a", "c")))
    assert one == again != other


def test_a_net_that_reads_all_channels_at_once_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "net", fine_forecaster(1, channelwise=False))
    with pytest.raises(UnusableCheckpoint, match="reads all channels at once, expected one that reads each by itself"):
        load_net(("a",), tmp_path / "net")


def test_what_is_opened_depends_on_whether_features_are_named(tmp_path: Path) -> None:
    detector = some_detector()
    save(tmp_path / "checkpoint", detector, described(detector))
    saved(tmp_path / "net", fine_forecaster(1, channelwise=True))
    assert open_checkpoint(tmp_path / "checkpoint").detector.known == detector.known
    assert open_checkpoint(tmp_path / "net", ("a", "b")).detector.features == ("a", "b")
    assert open_checkpoint(None, ("a",)).path == GENERIC
    with pytest.raises(UnusableCheckpoint, match="a net for any features, expected `features` beside it"):
        open_checkpoint(tmp_path / "net")
    with pytest.raises(UnusableCheckpoint, match="says itself which features it judges, expected none beside it"):
        open_checkpoint(tmp_path / "checkpoint", ("a",))


def test_a_damaged_net_file_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "net", fine_forecaster(1, channelwise=True))
    content = bytearray((tmp_path / "net").read_bytes())
    content[-1] ^= 1
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(UnusableCheckpoint, match="the file was damaged or changed"):
        load_net(("a",), tmp_path / "net")


def test_a_net_file_and_a_checkpoint_are_not_taken_for_each_other(tmp_path: Path) -> None:
    saved(tmp_path / "net", fine_forecaster(1, channelwise=True))
    detector = some_detector()
    save(tmp_path / "checkpoint", detector, described(detector))
    assert not is_net(tmp_path / "checkpoint")
    with pytest.raises(UnusableCheckpoint, match="without a `telltale` entry"):
        load(tmp_path / "net")
    with pytest.raises(UnusableCheckpoint, match="without a `telltale-net` entry"):
        load_net(("a",), tmp_path / "checkpoint")


def test_a_checkpoint_of_a_net_that_reads_each_channel_by_itself_comes_back(tmp_path: Path) -> None:
    detector = Detector.cold(fine_forecaster(3, channelwise=True))
    save(tmp_path / "checkpoint", detector, described(detector))
    loaded = load(tmp_path / "checkpoint").detector
    assert loaded.forecaster.config == detector.forecaster.config
    assert loaded.rows_for([b"new"]).hidden.shape == (1, 1, 3 * 64)
