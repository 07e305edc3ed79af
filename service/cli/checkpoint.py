"""`telltale checkpoint`: look at a trained model's file."""

from pathlib import Path
from typing import Annotated

import typer

from models.output.wording import counted
from service.cli.options import load_checkpoint, out

app = typer.Typer()
checkpoint_app = typer.Typer(no_args_is_help=True, help="Look at a trained model's file.")
app.add_typer(checkpoint_app, name="checkpoint")


@checkpoint_app.command("show", epilog="Example: telltale checkpoint show plant.safetensors")
def checkpoint_show(path: Annotated[Path, typer.Argument(help="Checkpoint file.")]) -> None:
    """Print what a checkpoint says of itself, as JSON."""
    import json

    loaded = load_checkpoint(path)
    described = loaded.description.model_dump()
    del described["row"]
    streams = [key.decode(errors="replace") for key in loaded.detector.known]
    out.print_json(json.dumps({"path": str(path), "sha256": loaded.digest, **described, "streams": streams}))


@checkpoint_app.command("verify", epilog="Example: telltale checkpoint verify plant.safetensors")
def checkpoint_verify(path: Annotated[Path, typer.Argument(help="Checkpoint file.")]) -> None:
    """Load a checkpoint as the service would: whole, of a known version, every tensor as described."""
    loaded = load_checkpoint(path)
    architecture = loaded.description.architecture
    out.print(
        f"{path}: good. {architecture.cell}, {architecture.hidden} hidden units, "
        f"{counted(architecture.layers, 'layer')}, {counted(len(architecture.features), 'feature')}, "
        f"{counted(len(loaded.detector.known), 'stream')} known, "
        f"sha256 {loaded.digest[:12]}"
    )
