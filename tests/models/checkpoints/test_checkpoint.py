import hashlib
import json
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from models.checkpoints.checkpoint import load, save
from models.checkpoints.checkpoint_header import (
    Description,
    Kinds,
    TrainingData,
    TrainingMetrics,
    UnusableCheckpoint,
    describe,
)
from models.data.series import Series
from models.detection.detector import Detector
from models.detection.kinds import KINDS, SYMPTOMS, TENSORS, VOTES
from models.detection.priming import prime
from models.detection.rows import CHANNELS, SCALARS, Rows
from models.net.cells import CELLS
from models.net.forecaster import ForecasterConfig
from models.output.output_file import UnwrittenOutput
from models.training.loop import fit
from models.training.run import TrainingConfig
from tests.data import QUICK, faulty, judge, some_forecaster, some_kinds

KEYS = [f"pump/ü {n}".encode() for n in range(12)]
KNOWN = 5
CPU = torch.device("cpu")
Header = dict[str, Any]


def some_detector(features: int = 2, layers: int = 1, known: int = KNOWN, *, names_kinds: bool = False) -> Detector:
    first = Detector.cold(some_forecaster(features, layers=layers), QUICK)
    if names_kinds:
        first = first.with_kinds(some_kinds())
    if not known:
        return first
    rows = judge(first, faulty(features, seed=1, readings=500), first.rows_for(KEYS)).rows
    some = torch.arange(known)
    return Detector(first.forecaster, QUICK, {KEYS[n]: n for n in range(known)}, rows.take(some), first.kinds)


def described(detector: Detector) -> Description:
    data = TrainingData(files=1, streams=KNOWN, readings=500, first_ms=1_000, last_ms=2_000)
    metrics = TrainingMetrics(
        epochs=3, best_epoch=2, loss=0.1, validation_loss=0.2, persistence_loss=None, seconds=1.5, ended="epochs"
    )
    kinds = Kinds(
        names=KINDS,
        streams=2,
        at_end=((3,) * 6,) * 6,
        at_alarm=((2,) * 7,) * 6,
        macro_f1_at_end=0.5,
        macro_f1_at_alarm=0.25,
    )
    return describe(
        detector,
        "2026-01-31T23:59:00Z",
        {"epochs": 3, "seed": 0},
        data,
        metrics,
        kinds if detector.kinds is not None else None,
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    detector = some_detector()
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save(path, detector, described(detector))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def refused(path: Path, content: bytes) -> str:
    """What is said of a file of these bytes."""
    path.write_bytes(content)
    with pytest.raises(UnusableCheckpoint) as refusal:
        load(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def split(content: bytes) -> tuple[Header, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: Header | list[Any], tensors: bytes) -> bytes:
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + tensors


def redescribed(content: bytes, change: Callable[[Header], Any]) -> bytes:
    """The same file, but its description changed."""
    header, tensors = split(content)
    description = json.loads(header["__metadata__"]["telltale"])
    change(description)
    header["__metadata__"]["telltale"] = json.dumps(description)
    return join(header, tensors)


def rebuilt(content: bytes, change: Callable[[dict[str, Tensor]], Any]) -> bytes:
    """The same file with other tensors, whose hash is right: as made by another program."""
    from safetensors.torch import load as load_tensors  # noqa: PLC0415
    from safetensors.torch import save as save_tensors  # noqa: PLC0415

    tensors = load_tensors(content)
    change(tensors)
    description = json.loads(split(content)[0]["__metadata__"]["telltale"])
    description["tensors_sha256"] = hashlib.sha256(split(save_tensors(tensors))[1]).hexdigest()
    return save_tensors(tensors, metadata={"telltale": json.dumps(description)})


@pytest.mark.parametrize(("features", "layers", "known"), [(1, 1, 0), (2, 1, KNOWN), (3, 2, 1)])
def test_what_is_loaded_judges_as_what_was_saved(path: Path, features: int, layers: int, known: int) -> None:
    detector = some_detector(features, layers, known)
    save(path, detector, described(detector))
    loaded = load(path).detector
    assert loaded.known == detector.known
    assert loaded.config == detector.config
    assert loaded.forecaster.config == detector.forecaster.config
    batch = faulty(features, seed=2, readings=600)
    before, after = (judge(one, batch, one.rows_for(KEYS), [100, 350]) for one in (detector, loaded))
    assert before.transitions == after.transitions
    for found, expected in zip((*after[:7], *after.rows), (*before[:7], *before.rows), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_head_that_names_kinds_says_the_same_after_loading(path: Path) -> None:
    detector = some_detector(names_kinds=True)
    said = described(detector)
    save(path, detector, said)
    loaded = load(path)
    assert loaded.description.kinds == said.kinds
    assert loaded.description.row["symptoms"] == SYMPTOMS.stored_names
    assert loaded.description.row["votes"] == VOTES.stored_names
    batch = faulty(2, seed=2, readings=600)
    before, after = (judge(one, batch, one.rows_for(KEYS), [100]) for one in (detector, loaded.detector))
    assert before.transitions == after.transitions
    assert any(one.guess is not None for one in after.transitions)
    for found, expected in zip(after.rows, before.rows, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_checkpoint_without_a_head_says_nothing_of_kinds(content: bytes) -> None:
    """So a version that knows of no heads reads it, and its bytes are those that version would write."""
    header, _ = split(content)
    assert "kinds" not in json.loads(header["__metadata__"]["telltale"])
    assert set(json.loads(header["__metadata__"]["telltale"])["row"]) == {"channels", "scalars"}
    assert not any(name.startswith("kinds.") for name in header)


def test_a_head_and_its_report_belong_together() -> None:
    plain, with_head = described(some_detector()), some_detector(names_kinds=True)
    with pytest.raises(ValueError, match="expected both or neither"):
        describe(with_head, plain.created, plain.training, plain.data, plain.metrics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["row"].pop("symptoms"), "its rows hold other statistics than this version's: train again"),
        (lambda d: d["row"].pop("votes"), "its rows hold other statistics than this version's: train again"),
        (lambda d: d["row"].update(symptoms=["push"]), "its rows hold other statistics than this version's"),
        (lambda d: d["kinds"].update(names=["spike"]), "its head names spike, expected spike, level_shift"),
        (lambda d: d.pop("kinds"), "its rows hold other statistics than this version's"),
    ],
)
def test_a_head_that_this_version_does_not_know_is_refused(
    path: Path, change: Callable[[Header], Any], message: str
) -> None:
    detector = some_detector(names_kinds=True)
    save(path, detector, described(detector))
    assert message in refused(path, redescribed(path.read_bytes(), change))


@pytest.mark.parametrize("name", TENSORS)
def test_a_head_without_one_of_its_tensors_or_with_another_shape_is_refused(path: Path, name: str) -> None:
    detector = some_detector(names_kinds=True)
    save(path, detector, described(detector))
    good = path.read_bytes()
    assert "kinds." in refused(path, rebuilt(good, lambda tensors: tensors.pop(f"kinds.{name}")))
    wider = lambda tensors: tensors.update({f"kinds.{name}": torch.zeros(3, 99, dtype=torch.float64)})  # noqa: E731
    assert "kinds." in refused(path, rebuilt(good, wider))


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_a_net_of_any_cell_learns_and_when_loaded_judges_the_same(path: Path, cell: str) -> None:
    place = np.arange(400)
    series = [
        Series(f"s{n}", path, ("a",), place, place * 60_000, np.sin(place[:, None] / 4 + n), place < 0)
        for n in range(4)
    ]
    fitted = fit(series, ForecasterConfig(("a",), cell, 16), TrainingConfig(epochs=3, side_by_side=2), CPU)
    assert fitted.epochs[-1].loss < 0.8 * fitted.epochs[0].loss
    assert fitted.best is not None
    assert fitted.best.validation_loss < fitted.persistence_loss

    detector = prime(fitted.forecaster, QUICK, series)
    save(path, detector, described(detector))
    loaded = load(path).detector
    assert loaded.forecaster.config.cell == cell
    batch = faulty(1, seed=3, readings=300)
    streams = [b"s0", b"s1", *KEYS]  # two of them known
    before, after = (judge(one, batch, one.rows_for(streams), [70]) for one in (detector, loaded))
    assert before.transitions
    assert before.transitions == after.transitions
    for found, expected in zip((*after[:7], *after.rows), (*before[:7], *before.rows), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_digest_is_that_of_the_whole_file(path: Path) -> None:
    detector = some_detector()
    digest = save(path, detector, described(detector))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = load(path)
    assert loaded.digest == digest
    assert loaded.path == path


def test_the_same_detector_is_the_same_file(tmp_path: Path) -> None:
    digests = {save(tmp_path / name, one, described(one)) for name in "ab" for one in (some_detector(),)}
    assert len(digests) == 1


def test_the_description_comes_back_as_it_was_said(path: Path) -> None:
    detector = some_detector()
    said = described(detector)
    save(path, detector, said)
    found = load(path).description
    assert found.model_copy(update={"tensors_sha256": ""}) == said
    assert found.tensors_sha256 == hashlib.sha256(split(path.read_bytes())[1]).hexdigest()
    assert found.architecture.model_dump() == asdict(detector.forecaster.config)
    assert found.row == {"channels": CHANNELS.stored_names, "scalars": SCALARS.stored_names}


def test_other_programs_can_read_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with safe_open(path, framework="np") as file:
        names = set(file.keys())
        metadata = file.metadata()
    assert {"forecaster.head_weight", "streams.keys", *(f"streams.{name}" for name in Rows._fields)} <= names
    assert json.loads(metadata["telltale"])["architecture"]["features"] == ["f0", "f1"]


def test_a_file_cut_off_anywhere_is_refused(path: Path, content: bytes) -> None:
    header = 8 + int.from_bytes(content[:8], "little")
    for length in (0, 1, 7, 8, 9, header - 1):
        assert f"{length} bytes, not a whole safetensors file" in refused(path, content[:length])
    for length in (header, header + 1, (header + len(content)) // 2, len(content) - 1):
        assert "the file was damaged or changed" in refused(path, content[:length])


def test_a_file_with_more_at_its_end_is_refused(path: Path, content: bytes) -> None:
    assert "the file was damaged or changed" in refused(path, content + b"\0")


@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
def test_a_flipped_bit_in_the_tensors_is_refused(path: Path, content: bytes, place: float) -> None:
    begin = 8 + int.from_bytes(content[:8], "little")
    damaged = bytearray(content)
    damaged[begin + int(place * (len(content) - 1 - begin))] ^= 1
    message = refused(path, bytes(damaged))
    right = json.loads(split(content)[0]["__metadata__"]["telltale"])["tensors_sha256"]
    wrong = hashlib.sha256(bytes(damaged[begin:])).hexdigest()
    assert f"SHA-256 is {wrong[:12]}…, the header says {right[:12]}…" in message


def test_tensors_of_a_file_that_lie_elsewhere_than_they_are_are_refused(path: Path, content: bytes) -> None:
    header, tensors = split(content)
    header["forecaster.head_bias"]["data_offsets"] = [0, 10**12]
    assert "not a safetensors file" in refused(path, join(header, tensors))


@pytest.mark.parametrize("version", [0, 2, 17, "1", None, [1]])
def test_another_schema_version_is_refused(path: Path, content: bytes, version: object) -> None:
    changed = redescribed(content, lambda description: description.update(schema_version=version))
    assert f"schema version {version}, this version of Telltale reads 1" in refused(path, changed)


def test_a_description_that_is_not_one_is_refused(path: Path, content: bytes) -> None:
    header, tensors = split(content)
    for said, message in (
        ("{", "its description is not JSON"),
        ("[]", "schema version None"),
        ("7", "schema version None"),
    ):
        header["__metadata__"]["telltale"] = said
        assert message in refused(path, join(header, tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(colour="red"), "description, colour: Extra inputs are not permitted, found 'red'"),
        (lambda d: d["architecture"].update(dropout=0.1), "description, architecture.dropout: Extra inputs"),
        (lambda d: d["architecture"].pop("hidden"), "description, architecture.hidden: Field required"),
        (lambda d: d["architecture"].update(hidden="wide"), "architecture.hidden: Input should be a valid integer"),
        (lambda d: d["architecture"].update(hidden=17), "hidden is 17, expected a multiple of 16"),
        (lambda d: d["architecture"].update(cell="gru7"), "cell 'gru7' is not known, expected one of"),
        (lambda d: d["architecture"].update(features=["f0", "f0"]), "expected at least one, each named once"),
        (lambda d: d["judgement"]["score"].update(temperature=1), "temperature"),
        (lambda d: d["row"].update(scalars=["age"]), "its rows hold other statistics than this version's: train again"),
        (lambda d: d.pop("tensors_sha256"), "description, tensors_sha256: Field required"),
    ],
)
def test_a_description_with_a_wrong_field_is_refused(
    path: Path, content: bytes, change: Callable[[Header], Any], message: str
) -> None:
    assert message in refused(path, redescribed(content, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("forecaster.head_weight"), "tensor forecaster.head_weight is missing"),
        (lambda t: t.pop("streams.keys"), "tensor streams.keys is missing"),
        (lambda t: t.pop("streams.key_lengths"), "tensor streams.key_lengths is missing"),
        (lambda t: t.pop("streams.hidden"), "tensor streams.hidden is missing"),
        (lambda t: t.update(extra=torch.zeros(2)), "tensor extra is not known, expected forecaster."),
        (
            lambda t: t.update({"forecaster.head_weight": torch.zeros(2, 17)}),
            r"tensor forecaster.head_weight is torch.float32 (2, 17), expected torch.float32 (2, 16)",
        ),
        (
            lambda t: t.update({"forecaster.head_bias": torch.zeros(2, dtype=torch.float64)}),
            r"tensor forecaster.head_bias is torch.float64 (2,), expected torch.float32 (2,)",
        ),
        (
            lambda t: t.update({"streams.cell": t["streams.cell"][1:].clone()}),
            r"tensor streams.cell is torch.float32 (4, 1, 16), expected torch.float32 (5, 1, 16)",
        ),
        (
            lambda t: t["forecaster.persistence"].fill_(torch.nan),
            "tensor forecaster.persistence holds values that are not finite",
        ),
        (
            lambda t: t["forecaster.recurrence.fused.weight_hh_l0"][3, 3].fill_(torch.inf),
            "tensor forecaster.recurrence.fused.weight_hh_l0 holds values that are not finite",
        ),
        (
            lambda t: t["streams.scalars"][0, 0].fill_(torch.nan),
            "tensor streams.scalars holds values that are not finite",
        ),
        (
            lambda t: t["streams.hidden"][0, 0, 0].fill_(torch.inf),
            "tensor streams.hidden holds values that are not finite",
        ),
        (lambda t: t["streams.key_lengths"][0].add_(1), "the stream keys are 45 bytes, their lengths add to 46"),
        (lambda t: t["streams.key_lengths"].copy_(torch.tensor([0, 18, 9, 9, 9])), "a stream key of 0 bytes"),
        (lambda t: t.update({"streams.keys": t["streams.keys"].long() + 300}), "tensor streams.keys is torch.int64"),
        (lambda t: t.update({"streams.keys": t["streams.keys"].float()}), "tensor streams.keys is torch.float32"),
        (lambda t: t.update({"streams.key_lengths": torch.tensor(5)}), "tensor streams.key_lengths is torch.int64 ()"),
        (
            lambda t: t.update({"streams.key_lengths": t["streams.key_lengths"].double()}),
            "tensor streams.key_lengths is torch.float64",
        ),
    ],
)
def test_a_file_with_a_wrong_tensor_is_refused(
    path: Path, content: bytes, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    assert message in refused(path, rebuilt(content, change))


def test_a_stream_that_is_in_it_twice_is_refused(path: Path, content: bytes) -> None:
    def repeat_first_key(tensors: dict[str, Tensor]) -> None:
        length = len(KEYS[0])
        tensors["streams.keys"][length : 2 * length] = tensors["streams.keys"][:length].clone()

    assert "twice" in refused(path, rebuilt(content, repeat_first_key))


@pytest.mark.parametrize("size", [{"hidden": 16 * 2**20}, {"features": [f"f{n}" for n in range(3)]}, {"layers": 2}])
def test_a_net_of_another_size_than_its_tensors_is_refused_before_it_is_built(
    path: Path, content: bytes, size: Header
) -> None:
    message = refused(path, redescribed(content, lambda description: description["architecture"].update(size)))
    assert "tensor" in message or "architecture.hidden" in message


def test_a_wider_net_needs_other_tensors(path: Path, content: bytes) -> None:
    message = refused(path, redescribed(content, lambda description: description["architecture"].update(hidden=32)))
    assert "expected torch.float32" in message


def test_a_safetensors_file_of_another_program_is_refused(path: Path, content: bytes) -> None:
    header, tensors = split(content)
    del header["__metadata__"]["telltale"]
    assert "without a `telltale` entry: not a Telltale checkpoint" in refused(path, join(header, tensors))
    del header["__metadata__"]
    assert "without a `telltale` entry" in refused(path, join(header, tensors))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"PK\x03\x04" * 100, "not a whole safetensors file"),
        ((2**63).to_bytes(8, "little") + b"{}" * 50, "not a whole safetensors file"),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", "not a whole safetensors file"),
        ((4).to_bytes(8, "little") + b"{{{{", "its header is not JSON"),
        ((4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc", "its header is not JSON"),
        ((2).to_bytes(8, "little") + b"[]", "its header is not an object"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "its header is not JSON"),
        (b"\0" * 8, "its header is not JSON"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(path: Path, said: bytes, message: str) -> None:
    assert message in refused(path, said)


def test_a_description_nested_without_end_is_refused(path: Path, content: bytes) -> None:
    header, tensors = split(content)
    header["__metadata__"]["telltale"] = "[" * 200_000
    assert "its description is not JSON" in refused(path, join(header, tensors))


class Trap:
    """A pickle that would leave a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.mark,))


def test_a_pickle_is_refused_and_never_run(path: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert "not a" in refused(path, pickle.dumps(Trap(mark), protocol))
    torch.save({"weights": torch.zeros(3)}, path)
    assert "not a" in refused(path, path.read_bytes())
    assert not mark.exists()


def test_a_file_that_is_not_there_or_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "nowhere", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UnusableCheckpoint, match=f"cannot be read: {reason}"):
            load(path)


@contextmanager
def files_no_longer_than(limit: int) -> Iterator[None]:
    """A full disk, as far as this process can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failure_while_writing_leaves_the_old_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    detector = some_detector(features=3)
    with files_no_longer_than(len(content) // 2), pytest.raises(UnwrittenOutput, match="File too large"):
        save(path, detector, described(detector))
    assert path.read_bytes() == content
    assert load(path).detector.features == ("f0", "f1")
    save(path, detector, described(detector))
    assert load(path).detector.features == ("f0", "f1", "f2")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_folders_above_it_are_made(tmp_path: Path) -> None:
    detector = some_detector()
    path = tmp_path / "deep" / "down" / "model.safetensors"
    save(path, detector, described(detector))
    assert load(path).detector.known == detector.known


@pytest.mark.slow
def test_loading_one_imports_nothing_of_torchs_compiler(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    code = f"""
import sys
from pathlib import Path
from models.checkpoints import checkpoint
checkpoint.load(Path({str(path)!r}))
print(*[name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
