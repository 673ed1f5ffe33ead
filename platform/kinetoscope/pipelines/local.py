"""Start, follow and stop runs on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from kinetoscope.config.load import LoadedConfig
from kinetoscope.config.paths import check_paths
from kinetoscope.core.errors import ConfigError
from kinetoscope.core.full_disk import MAKE_ROOM
from kinetoscope.core.ids import new_run_id
from kinetoscope.core.machine_limits import disk_space
from kinetoscope.core.settings import Workspace
from kinetoscope.core.units import GIB, format_bytes
from kinetoscope.data.prepare.fetching import check_room
from kinetoscope.runs.create import write_run
from kinetoscope.runs.record_types import Start
from kinetoscope.runs.records import Run
from kinetoscope.runs.videos import look_at_videos
from kinetoscope.steps.process_identity import ProcessIdentity
from kinetoscope.storage.open import open_store
from kinetoscope.storage.own_folders import MARKER, STORE_FOLDERS, WORKSPACE_FOLDERS, mark_own

_POLL_SECONDS = 0.5
# A laptop run's checkpoints, latents and samples; what a big model needs, it finds out later.
_MIN_FREE_BYTES = 2 * GIB


def create_run(
    loaded: LoadedConfig,
    videos: str,
    workspace: Workspace,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Run:
    """Check the machine and the input, and write the records of a new run.

    Args:
        loaded: the run's config.
        videos: path or URI of the videos, as a user writes it.
        workspace: that keeps the run, unless its store is elsewhere.
        progress: called with the number of files whose content is known, and of all.
        tell: called with what people should know before anything is done: the disk needed.

    Raises:
        DataError: when the place of videos is missing, or has no video.
        ConfigError: when the disk is too full, or files that the config names are missing.
    """
    check_paths(loaded)
    place, listing = look_at_videos(videos)
    check_disk(workspace)
    told = check_room(place, listing, loaded.config.prepare_data, workspace.scratch_path)
    if tell is not None:
        tell(told)
    _mark(workspace)
    run = Run(workspace.store_uri, new_run_id())
    write_run(run, loaded.config, videos, workspace, progress, (place, listing))
    return run


def check_disk(workspace: Workspace) -> None:
    """Raise ``ConfigError`` when the workspace's disk is too full to begin."""
    free = disk_space(workspace.root).free
    if free < _MIN_FREE_BYTES:
        raise ConfigError(
            f"{format_bytes(free)} are free at {workspace.root}; "
            f"{format_bytes(_MIN_FREE_BYTES)} are needed",
            hint=MAKE_ROOM,
        )


def _mark(workspace: Workspace) -> None:
    """Note what is ours before the videos are listed, who may lie around or beside it."""
    mark_own(workspace.root, WORKSPACE_FOLDERS)
    marker = open_store(workspace.store_uri).local_path(MARKER)
    if marker is not None:
        mark_own(marker.parent, STORE_FOLDERS)


class Host:
    """The process that hosts a start of a run, seen from the one that started it.

    Args:
        run: to start.
        workspace: that keeps the run's log.
        after: number of the start that it follows; see `Run.begin`.
    """

    def __init__(self, run: Run, workspace: Workspace, *, after: int) -> None:
        run.config  # noqa: B018 - what can't be read is told here, not in the host's log
        self.run = run
        self.log_path = workspace.root / "logs" / f"{run.run_id}.log"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            # A session of its own, so that Ctrl-C in the terminal reaches only us: we then ask the
            # run to stop, and its steps save.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kinetoscope.pipelines.local_host", run.uri],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ
                | {
                    "KINO_WORKSPACE": str(workspace.root),
                    "KINO_STARTER_PID": str(os.getpid()),
                    "KINO_RUN_START": str(after + 1),
                },
            )
        process = ProcessIdentity.of(self._process.pid)
        try:
            self.start = run.begin(Start(process=process, started_at=time.time()), after=after)
        except BaseException:  # another command was first: our host has nothing to do
            self.kill()
            self._process.wait()
            raise

    def follow(self, on_tick: Callable[[], None]) -> int:
        """Wait for the run's end; return the host's exit code.

        The first Ctrl-C or SIGTERM asks the run to save and stop, the second kills it.

        Args:
            on_tick: called about twice a second, and once at the end.
        """
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self._process.poll() is None:
                on_tick()
                time.sleep(_POLL_SECONDS)
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
        on_tick()
        return self._process.returncode

    def kill(self) -> None:
        """Kill the host and all its processes at once."""
        try:
            family = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()

    def _on_signal(self, *_: object) -> None:
        if not self.start.stop_requested():
            self.start.request_stop()
        else:
            self.kill()
