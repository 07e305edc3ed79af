"""`make faults`: every row of the fault suite in its full size, and a table of what was found.

    python -m tests.faults [--seed N] [--small] [ROW ...]     at most an hour for all; --small: as in CI
    python -m tests.faults soak [--minutes 20] [--seed N]

The exit code is 1 if a row failed. The seed that is printed plays the same schedule again.
"""

import argparse
import os
import random
import sys
import time
from contextlib import closing

# Before torch is imported, by whoever does so first: other numbers of threads give other bits.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which rows; without: all but the soak")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    parser.add_argument("--small", action="store_true", help="in the sizes of CI")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the soak")
    args = parser.parse_args()
    from tests.faults import suite  # noqa: PLC0415
    from tests.faults.figures import HEADING, Cast  # noqa: PLC0415
    from tests.faults.soak import soak  # noqa: PLC0415
    from tests.kafka import running_broker  # noqa: PLC0415
    from tests.nursery import Nursery  # noqa: PLC0415

    names = args.rows or list(suite.ROWS)
    if unknown := set(names) - {*suite.ROWS, "soak"}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(suite.ROWS)} and soak")
    print(f"seed {args.seed}\n{HEADING}", flush=True)
    began, failed = time.monotonic(), []
    with running_broker() as broker, closing(Nursery(suite.ROLES)) as nursery:
        for name in names:
            cast = Cast(broker, nursery, args.seed)
            figures = soak(cast, args.minutes) if name == "soak" else suite.play(name, cast, full=not args.small)
            print(figures.line(), flush=True)
            failed += [] if figures.passed else [name]
    print(
        f"{len(names)} rows in {(time.monotonic() - began) / 60:.1f} min, seed {args.seed}; failed: {failed or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
