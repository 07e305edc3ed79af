"""The notebook in docs/notebooks: `python -m tests.notebook` makes it, with its outputs."""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
PATH = ROOT / "docs" / "notebooks" / "first-look.ipynb"
STARTS_WITHIN_S = 300
CELL_WITHIN_S = 600

TEXT = """
# A first look

Two machines of a simulated plant report three sensors a minute. The first 1,600 readings of each are normal, to learn
from. After them there are faults. How to do this with frames of your own: [docs/python.md](../python.md).

---
import plotly.express as px
import polars as pl

import telltale
from models.data.synthetic import plant, to_frame

frame = to_frame(plant(streams=2, readings=2400, seed=3, fault_every=300, first_fault_after=1600))
frame = frame.with_columns(pl.from_epoch("timestamp", time_unit="ms"))
past, present = frame.filter(part="train"), frame.filter(part="test")
present.head(3)

---
The net learns to expect the next reading of every stream from what it remembers of those before.

---
detector = telltale.train(past, hidden=16, epochs=10)
detector

---
It goes on from there: what is not as expected, and stays so, is an anomaly.

---
anomalies = detector.anomalies(present)
anomalies

---
One sensor, the band in which it was expected, and the anomalies of its machine with the sensors that opened them:

---
pump = detector.judge(present).join(present, on=["stream", "timestamp"]).filter(stream="line-01/pump-001")
figure = px.line(
    pump,
    x="timestamp",
    y=["lower_temperature", "upper_temperature", "temperature"],
    color_discrete_sequence=["silver", "silver", "royalblue"],
    labels={"value": "temperature", "variable": ""},
)
for row in anomalies.filter(stream="line-01/pump-001").iter_rows(named=True):
    figure.add_vrect(row["start"], row["end"], fillcolor="red", opacity=0.2, annotation_text=row["channels"])
figure.show(renderer="plotly_mimetype")
"""
CODE = re.compile(r"^(?:import|from|detector =|anomalies =|pump =) ?")


def written() -> nbformat.NotebookNode:
    """The notebook without outputs."""
    cells = []
    for number, text in enumerate(part.strip() for part in TEXT.split("\n---\n")):
        make = nbformat.v4.new_code_cell if CODE.match(text) else nbformat.v4.new_markdown_cell
        cells.append(make(text, id=f"cell-{number}"))  # else it has another name every time
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed() -> nbformat.NotebookNode:
    """The notebook with the outputs that it has here. Raises CellExecutionError."""
    notebook = written()
    client = NotebookClient(
        notebook,
        timeout=CELL_WITHIN_S,
        startup_timeout=STARTS_WITHIN_S,
        kernel_name="python3",
        config=Config(KernelManager={"transport": "ipc"}),
        record_timing=False,
        resources={"metadata": {"path": str(ROOT)}},
    )
    client.execute()
    del notebook.metadata["language_info"]
    return notebook


def main() -> None:
    PATH.parent.mkdir(exist_ok=True)
    nbformat.write(executed(), PATH)
    print(f"{PATH.relative_to(ROOT)}  {PATH.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
