"""A pipe between ranks and whoever started them, which closes when that process dies.

Apart from `steps.ranks`: workers import this, and how ranks are started is no part of what a step
makes, so a change there must not change the fingerprint of every step.
"""

from __future__ import annotations

import os
import threading

from kinetoscope.core.errors import ExitCode

LIFELINE = "KINO_LIFELINE"
"""Environment variable of a rank: the file descriptor of its end."""


def exit_with_starter() -> None:
    """End this process when whoever started it as a rank dies: its end of the pipe closes then.

    Nothing happens in a process that `steps.ranks` did not start.
    """
    lifeline = os.environ.get(LIFELINE)
    if lifeline is None:
        return

    def watch() -> None:
        os.read(int(lifeline), 1)
        os._exit(ExitCode.FAILED)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
