"""How often the second head names the right kind: faults put into real series that nothing was trained on.

Of every set, the files take turns: the even ones train forecaster and head, by their `train` rows alone; the odd ones
are judged, whole, from a cold start, with faults only where the detector finds nothing in the series as it is. One
configuration for all sets. `python -m tests.bench.kinds --data benchmarks/` prints what docs/kinds.md says;
docs/evaluation.md says what lies in that folder.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.series import find_files, read_series
from models.detection.detector import DetectorConfig
from models.detection.kinds import KINDS
from models.detection.priming import prime
from models.net.forecaster import ForecasterConfig
from models.training.kinds_training import KindsConfig, KindsReport, evaluate_kinds, fit_kinds, scores
from models.training.loop import fit, usable
from models.training.run import TrainingConfig

SETS = ("nab", "skab", "asd", "smd")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("benchmarks"), help="a folder for each set")
    arguments.add_argument("--sets", default=",".join(SETS))
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--cell", default="lstm")
    arguments.add_argument("--train-seconds", type=float, default=120.0, help="of each forecaster, at most")
    arguments.add_argument("--out", type=Path, help="JSON with the confusion matrices")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    reports = {
        name: one_set(chosen.data / name, chosen.cell, chosen.train_seconds, chosen.seed)
        for name in chosen.sets.split(",")
    }
    together = KindsReport(*(np.sum(column, axis=0) for column in zip(*reports.values(), strict=True)))
    for name, report in {**reports, "all": together}.items():
        show(name, report)
    if chosen.out:
        matrices = {name: [column.tolist() for column in report] for name, report in reports.items()}
        chosen.out.write_text(json.dumps(matrices))


def one_set(folder: Path, cell: str, seconds: float, seed: int) -> KindsReport:
    files = find_files([folder])
    parts = usable(read_series(files[::2]))
    unseen = read_series(files[1::2], parts[0].features)
    config, kinds = ForecasterConfig(parts[0].features, cell), KindsConfig()
    began = time.monotonic()
    training = TrainingConfig(seed=seed, budget_s=seconds)
    detector = prime(fit(parts, config, training, torch.device("cpu")).forecaster, DetectorConfig(), parts)
    fitted = time.monotonic()
    head = fit_kinds(detector, parts, kinds, seed)
    taught = time.monotonic()
    report = evaluate_kinds(detector.with_kinds(head), unseen, kinds, seed + 1)
    print(
        f"{folder.name}: {len(parts)} files trained on, {len(unseen)} judged; forecaster {fitted - began:.0f} s, "
        f"head {taught - fitted:.0f} s, judged in {time.monotonic() - taught:.0f} s",
        flush=True,
    )
    return report


def show(name: str, report: KindsReport) -> None:
    opened = report.at_alarm[:, :-1].sum()
    print(f"\n{name}: {report.at_end.sum()} faults, {opened} of them opened an alarm")
    matrix("word at the fault's end, every fault", report.at_end, KINDS)
    matrix("last word of the fault's alarm", report.at_alarm, (*KINDS, "no alarm"))


def matrix(title: str, confusion: NDArray[np.int64], header: Sequence[str]) -> None:
    found = scores(confusion)
    print(f"  {title}: macro-F1 {found.macro_f1:.3f}")
    print(" " * 14 + "".join(f"{word:>12}" for word in (*header, "precision", "recall", "F1")))
    for n, kind in enumerate(KINDS):
        counts = "".join(f"{count:12d}" for count in confusion[n])
        print(f"  {kind:12}{counts}" + "".join(f"{column[n]:12.2f}" for column in found[:3]))


if __name__ == "__main__":
    main()
