"""One of several processes that train together: a program of its own, which test_distributed.py starts W times.

It says that it is there, waits for a line, and joins the others: so that however long the start takes, the time limit
of what follows can be short.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from models.training.distributed import DifferentData, Ranks, joined
from models.training.loop import Fitted, Progress, fit
from tests.models.training.test_state import NET, SHORT, some_series


def main(does: str, folder: Path, timeout_s: float) -> None:
    torch.set_num_threads(1)
    print("there", flush=True)
    sys.stdin.readline()
    with joined(torch.device("cpu"), timeout_s) as ranks:
        {"learn": learn, "go_on": go_on}[does](ranks, folder)


def learn(ranks: Ranks, folder: Path) -> None:
    """Writes what came out of it to FOLDER/RANK.json, and what came out of a run that SIGTERM interrupted twice."""
    differed = True
    with suppress(DifferentData):
        fit(some_series()[ranks.rank :], NET, SHORT, ranks.device, ranks=ranks)
        differed = False
    calm = fit(some_series(), NET, SHORT, ranks.device, ranks=ranks)

    def stop(progress: Progress) -> None:
        if 0.3 < progress.done < 0.9:
            os.kill(os.getpid(), signal.SIGTERM)  # only the first process tells, so only it gets the signal

    state = folder / "run"
    parts = [fit(some_series(), NET, SHORT, ranks.device, stop, state, ranks) for _ in range(2)]
    resumed = fit(some_series(), NET, SHORT, ranks.device, run_file=state, ranks=ranks)
    found = {"differed": differed, "ended": [part.ended for part in parts]}
    found |= {"calm": content(calm), "resumed": content(resumed)}
    (folder / f"{ranks.rank}.json").write_text(json.dumps(found))


def go_on(ranks: Ranks, _: Path) -> None:
    """Agree with each other, again and again, as training does before every step."""
    while ranks.sum(1.0) == [ranks.world]:
        print("on", flush=True)


def content(fitted: Fitted) -> dict[str, Any]:
    weights = {name: weight.flatten().tolist() for name, weight in fitted.forecaster.state_dict().items()}
    return {"epochs": [list(epoch) for epoch in fitted.epochs], "weights": weights}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
