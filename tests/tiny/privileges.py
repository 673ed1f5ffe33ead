"""What only some users and machines may do, which tests of it ask for first."""

from __future__ import annotations

import subprocess

import pytest


def do_or_skip(command: list[str], right: str) -> None:
    """Run a command; skip the test where there is no such program, or it is not allowed.

    Args:
        command: the program and its arguments.
        right: what it needs, e.g. ``to make a PID namespace``.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"needs the program `{command[0]}`")
    if done.returncode:
        pytest.skip(f"needs the right {right}: {done.stderr.strip()}")
