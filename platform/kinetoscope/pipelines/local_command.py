"""The command by which kfp's local runner starts a task, right for any path of the interpreter.

kfp writes the path into a shell script as it is, and over every ``python3`` in the command's
arguments as well: in the URI of a run, if a folder has that name.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PYTHON = "python3"
_SCRIPT_FOLLOWS = ("-c", "-ec")


def quote_interpreter() -> None:
    """Let kfp's subprocess runner take :func:`with_interpreter` instead of its own function."""
    from kfp.local import subprocess_task_handler

    subprocess_task_handler.replace_python_executable = with_interpreter


def with_interpreter(command: Sequence[str], interpreter: str) -> list[str]:
    """Return a task's command with an interpreter in its shell scripts and nowhere else.

    Args:
        command: of shells (``sh -c SCRIPT``), the component's code and its arguments.
        interpreter: path of the Python that runs the code.
    """
    quoted = shlex.quote(interpreter)
    return [
        word.replace(_PYTHON, quoted) if before in _SCRIPT_FOLLOWS else word
        for before, word in zip(["", *command], command, strict=False)
    ]
