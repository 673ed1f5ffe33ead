"""Run this checkout's ``kino`` without installing it: ``python cli.py --help``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "components")]

from kinetoscope.cli.app import app

if __name__ == "__main__":
    app(prog_name="kino")
