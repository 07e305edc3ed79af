"""What Lighthouse says of the live page of a real service, as a desk and as a phone see it.

npm install --prefix tests/lighthouse    # once: some 190 MB
python -m tests.lighthouse [URL]

Without a URL it is the page of a service of its own, with a plant of which some streams are sick. Its performance is
counted as if on a slow line and, for a phone, on a slow processor: see Lighthouse's own documentation.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.browser.chromium import chromium
from tests.browser.scene import Plant, save_checkpoint
from tests.integration.test_end_to_end import made_topics, service, wait_until
from tests.kafka import running_broker

PROGRAM = Path(__file__).parent / "node_modules" / ".bin" / "lighthouse"
CATEGORIES = ("performance", "accessibility", "best-practices")
SIZES: dict[str, tuple[str, ...]] = {"desk": ("--preset=desktop",), "phone": ()}
BROWSER = "--headless=new --no-sandbox --disable-dev-shm-usage"
STREAMS = tuple(f"line-{n % 3:02d}/pump-{n:03d}" for n in range(40))
SICK = frozenset(STREAMS[:2])
HISTORY = 240  # readings of each stream that are there at the start
WITHIN_S = 300.0


def main(url: str | None) -> None:
    if not PROGRAM.exists():
        raise SystemExit("Lighthouse is not here: npm install --prefix tests/lighthouse")
    if url is not None:
        _rate(url)
        return
    with _plant() as own:
        _rate(own)


@contextmanager
def _plant() -> Iterator[str]:
    """The page of a service that judges a plant, of which anomalies are open."""
    with TemporaryDirectory() as place, running_broker() as broker:
        checkpoint, names = save_checkpoint(Path(place) / "quick.safetensors"), made_topics(broker)
        with (
            service(broker, checkpoint, names) as running,
            closing(Plant(broker, names.topic, STREAMS, HISTORY)) as plant,
        ):
            plant.send(HISTORY)
            plant.sick = SICK
            plant.start()
            wait_until(lambda: '"found":0' not in running.get("/api/v1/anomalies/open")[1], "an anomaly is open")
            yield f"http://127.0.0.1:{running.port}/"


def _rate(url: str) -> None:
    for size, preset in SIZES.items():
        said = _report(url, preset)
        print(f"{size}: Lighthouse {said['lighthouseVersion']}, {said['environment']['hostUserAgent']}")
        for category in CATEGORIES:
            print("\n".join(_lines(said["categories"][category], said["audits"])))


def _report(url: str, preset: Sequence[str]) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        asked = (f"--only-categories={','.join(CATEGORIES)}", f"--chrome-flags={BROWSER}", *preset)
        subprocess.run(
            [PROGRAM, url, "--quiet", "--output=json", f"--output-path={path}", *asked],
            env={**os.environ, "CHROME_PATH": chromium()},
            check=True,
            timeout=WITHIN_S,
        )
        return json.loads(path.read_text())


def _lines(category: Mapping[str, Any], audits: Mapping[str, Any]) -> Iterator[str]:
    """The category's score, and each audit that keeps it from 100."""
    yield f"  {category['title']:<16}{round(100 * category['score']):>4}"
    for part in category["auditRefs"]:
        audit = audits[part["id"]]
        if part["weight"] and audit["score"] is not None and audit["score"] < 1:
            yield f"    {audit['title']}: {audit.get('displayValue', 'not met')}"


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
