"""Where the colours and the font of the live page and of the reports are."""

from pathlib import Path

PALETTE = Path(__file__).parent / "palette.css"
