from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from kinetoscope.cli.live import status_table
from kinetoscope.cli.output import first_of, say, say_message, table

ROOT = Path(__file__).resolve().parents[3]
EVIL = "a\x1b[2J\rb\nrzzzzzzz  forged  done\u202e"


def test_a_name_adds_no_line_and_moves_no_column(capsys: pytest.CaptureFixture[str]) -> None:
    say(*table(("name", "state"), [(EVIL, "failed"), ("b", "done")]))
    shown = r"a\x1b[2J\rb\nrzzzzzzz  forged  done\u202e"
    width = len(shown)
    lines = [f"{'name':<{width}}  state", f"{shown}  failed", f"{'b':<{width}}  done"]
    assert capsys.readouterr().out.splitlines() == lines


def test_no_name_in_a_message_begins_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say_message("error", "not valid:\n  seed: missing\nhint: rm -rf /")
    assert capsys.readouterr().err == "error: not valid:\n  seed: missing\\nhint: rm -rf /\n"


def test_a_long_list_is_cut_and_says_where_the_rest_is() -> None:
    lines = [str(number) for number in range(5000)]
    assert first_of(lines, "/q.jsonl") == [*lines[:10], "and 4990 more: /q.jsonl"]
    assert first_of(lines[:10], "/q.jsonl") == lines[:10]


def test_the_live_table_takes_no_markup_and_no_escapes_of_others() -> None:
    progress = {"done": 1, "total": 2, "unit": "", "info": {"[b]at[/b]": ":boom: [red]\x1b[2J"}}
    row = {"name": "[red]x", "state": "running", "cached": False, "seconds": 1.0, "reason": ""}
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(status_table({"steps": [row | {"progress": progress}]}))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert r"50% 1/2, [b]at[/b] :boom: [red]\x1b[2J" in shown
    assert "[red]x" in shown


@pytest.mark.parametrize("verb", [["ls"], ["recipes", "--json"], ["--help"], ["ls", "--wrong"]])
def test_a_reader_that_has_gone_is_no_failure(verb: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "cli.py"), *verb]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == (2 if "--wrong" in verb else 0)
    assert done.stderr.startswith(b"error: no such option" if "--wrong" in verb else b"")
    assert b"Broken" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_terminal_that_knows_no_unicode_gets_escapes() -> None:
    command = "from kinetoscope.cli.output import say; say('\\u732b \\udcff')"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT / "platform")},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"\\u732b \\udcff\n"
