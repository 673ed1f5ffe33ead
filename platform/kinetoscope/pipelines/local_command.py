"""The command by which kfp's local runner starts a task: right for any path, and swept up after.

kfp writes the interpreter's path into a shell script as it is, and over every ``python3`` in the
command's arguments as well: in the URI of a run, if a folder has that name. And it puts the task's
code into a folder of the system's folder for temporary files, for ever.
"""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PYTHON = "python3"
_NEW_FOLDER = "$(mktemp -d)"
_TO_REPLACE = re.compile("|".join(map(re.escape, (_PYTHON, _NEW_FOLDER))))
_SCRIPT_FOLLOWS = ("-c", "-ec")


def take_over_commands(scratch: Path) -> None:
    """Let kfp's subprocess runner take :func:`task_command` instead of its own function.

    Args:
        scratch: folder for what tasks need as long as they run.
    """
    from kfp.local import subprocess_task_handler

    subprocess_task_handler.replace_python_executable = partial(task_command, scratch=scratch)


def task_command(command: Sequence[str], interpreter: str, *, scratch: Path) -> list[str]:
    """Return a task's command with what its shell scripts need, and nothing else, replaced.

    Args:
        command: of shells (``sh -c SCRIPT``), the component's code and its arguments.
        interpreter: path of the Python that runs the code.
        scratch: folder for the code.
    """
    new_folder = f"$(mktemp -d {shlex.quote(str(scratch))}/task-XXXXXXXX)"
    values = {_PYTHON: shlex.quote(interpreter), _NEW_FOLDER: new_folder}
    return [
        _TO_REPLACE.sub(lambda found: values[found[0]], word) if before in _SCRIPT_FOLLOWS else word
        for before, word in zip(["", *command], command, strict=False)
    ]
