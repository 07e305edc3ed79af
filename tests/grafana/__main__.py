"""Pictures of the dashboards, drawn by Grafana's own components, of what a real Prometheus knows of a real service.

npm install --prefix tests/grafana    # once: some 460 MB
python -m tests.grafana FOLDER

It is for a person to look at: whether a panel says what it is there to say. Of what runs beside the workers there is
`telltale incidents` alone. Grafana itself is not there, nor its panel plugins, which are in its core: links,
annotations and what belongs to a whole dashboard are not drawn.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Route

from tests.browser.chromium import running_browser
from tests.browser.scene import Plant, save_checkpoint
from tests.integration.test_end_to_end import service
from tests.integration.test_incidents import prepared, running
from tests.kafka import Broker, running_broker
from tests.prometheus import Served, running_prometheus

HERE = Path(__file__).parent
BOARDS = HERE.parents[1] / "deploy" / "grafana" / "dashboards"
STREAMS = tuple(f"line-{n % 3:02d}/pump-{n:03d}" for n in range(40))
SICK = frozenset(STREAMS[:4])
HISTORY = 240  # readings of each stream that are there at the start
CALM_S, FAULT_S, AFTER_S = 60, 45, 45
STEP_S = 2
WIDTH, SETTLED_MS = 1440, 2_000
READ_WITHIN_MS = 120_000  # Grafana's components are megabytes
VARIABLES = {"job": "telltale", "page": "http://localhost:8080"}
ORIGIN = "http://board.invalid"  # what is asked for there is answered from files
ICONS = HERE / "node_modules" / "@grafana" / "ui" / "dist" / "public"
NO_ALERTMANAGER = "127.0.0.1:9"
LOADERS = ("svg=text", "woff2=empty", "ttf=empty")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place, running_broker() as broker, running_browser() as browser:
        drawing = _built(Path(place))
        with _watched(broker, Path(place)) as (prometheus, began_s):
            span = (began_s, time.time())
            for file in sorted(BOARDS.glob("*.json")):
                board = _answered(json.loads(file.read_text()), prometheus, span)
                for scheme in ("light", "dark"):
                    _draw(browser, drawing, board, span, scheme, folder / f"{file.stem}-{scheme}.png")


def _built(place: Path) -> Path:
    """The page that draws, with all that it needs beside it."""
    esbuild = next(HERE.glob("node_modules/@esbuild/*/bin/esbuild"), None)
    if esbuild is None:
        raise SystemExit("Grafana's components are not here: npm install --prefix tests/grafana")
    page = place / "board.html"
    page.write_text(
        '<!doctype html><html lang="en"><link rel="stylesheet" href="draw.css"><body style="margin:0">'
        '<div id="board" style="position:relative"></div><script src="draw.js"></script></body></html>'
    )
    options = ["--bundle", "--minify", "--jsx=automatic", '--define:process.env.NODE_ENV="production"']
    options += [f"--loader:.{one}" for one in LOADERS]
    subprocess.run(
        [esbuild, HERE / "draw.jsx", *options, f"--outfile={place / 'draw.js'}", "--log-level=error"], check=True
    )
    return page


@contextmanager
def _watched(broker: Broker, place: Path) -> Iterator[tuple[Served, float]]:
    """Prometheus, after it has seen a plant of which some streams were sick for a while, and since when."""
    checkpoint, (names, incidents) = save_checkpoint(place / "quick.safetensors"), prepared(broker)
    with (
        service(broker, checkpoint, names, TELLTALE_METRICS__TOP_STREAMS="5") as telltale,
        running(broker, names, incidents) as stage,
        running_prometheus(place, _of(telltale.port), NO_ALERTMANAGER, _of(stage.metrics_port)) as prometheus,
        closing(Plant(broker, names.topic, STREAMS, HISTORY)) as plant,
    ):
        plant.send(HISTORY)
        began_s = time.time()
        plant.start()
        for sick, seconds in ((frozenset(), CALM_S), (SICK, FAULT_S), (frozenset(), AFTER_S), (SICK, FAULT_S)):
            plant.sick = sick
            time.sleep(seconds)
        yield prometheus, began_s


def _of(port: int) -> str:
    return f"127.0.0.1:{port}"


def _answered(board: dict[str, Any], prometheus: Served, span: tuple[float, float]) -> dict[str, Any]:
    """The dashboard with what Prometheus says to each of its panels."""
    panels = [
        panel | {"answers": [_answer(target, prometheus, span) for target in panel.get("targets", ())]}
        for panel in board["panels"]
    ]
    return board | {"panels": panels}


def _answer(target: Mapping[str, Any], prometheus: Served, span: tuple[float, float]) -> dict[str, Any]:
    began_s, until_s = span
    given = VARIABLES | {"__rate_interval": "20s", "__interval": f"{STEP_S}s", "__range": f"{until_s - began_s:.0f}s"}
    expression = target["expr"]
    for name in sorted(given, key=len, reverse=True):
        expression = expression.replace(f"${name}", given[name])
    if target.get("instant"):
        answer = prometheus.get("/api/v1/query", query=expression, time=f"{until_s}")
    else:
        within = {"start": f"{began_s}", "end": f"{until_s}", "step": f"{STEP_S}"}
        answer = prometheus.get("/api/v1/query_range", query=expression, **within)
    return {**target, "result": answer["data"]["result"]}


def _serve(place: Path, route: Route) -> None:
    """The drawing page's own files, and the icons of the components. Grafana's fonts are not here."""
    path = route.request.url.removeprefix(f"{ORIGIN}/")
    file = ICONS / path.removeprefix("public/build/") if path.startswith("public/") else place / path
    if file.is_file():
        route.fulfill(path=file)
    else:
        route.fulfill(status=204)


def _draw(
    browser: Browser, drawing: Path, board: dict[str, Any], span: tuple[float, float], scheme: Any, path: Path
) -> None:
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            said.append(message.text)

    with closing(browser.new_context(viewport={"width": WIDTH, "height": 1000}, color_scheme=scheme)) as session:
        page = session.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.route(f"{ORIGIN}/**", partial(_serve, drawing.parent))
        page.goto(f"{ORIGIN}/{drawing.name}", timeout=READ_WITHIN_MS)
        shown = {"board": board, "from_s": span[0], "to_s": span[1], "dark": scheme == "dark", "variables": VARIABLES}
        said += page.evaluate("shown => window.draw(shown)", shown)
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": WIDTH, "height": height})  # tables draw rows that are in view
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=path)
    print(f"{path}: {len(board['panels'])} panels", *said, sep="\n  ", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
