"""What happens to files: cut, flipped, swapped; and a disk that is full in a save."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tiny.faults.stage import Stage
from tiny.faults.verdict import Verdict, unless, verdict
from tiny.job import Job
from tiny.small_disk import fill, small_disk

from kinetoscope.core.errors import ExitCode
from kinetoscope.core.uris import file_path
from kinetoscope.steps.ledger.entries import Damaged
from kinetoscope.steps.ledger.ledger import Ledger


def truncated_file(stage: Stage) -> Verdict:
    """A file of the newest checkpoint lacks its last bytes."""

    def cut(newest: Path, _older: Path) -> None:
        file = newest / "ema.safetensors"
        file.write_bytes(file.read_bytes()[:-8])

    return _damaged(stage, "truncated", cut)


def flipped_byte(stage: Stage) -> Verdict:
    """A byte in the newest checkpoint is another one."""

    def flip(newest: Path, _older: Path) -> None:
        file = newest / "optimizer.safetensors"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)

    return _damaged(stage, "flipped", flip)


def swapped_checkpoint(stage: Stage) -> Verdict:
    """The files of an earlier step lie in the newest checkpoint's folder."""

    def swap(newest: Path, older: Path) -> None:
        shutil.rmtree(newest)
        shutil.copytree(older, newest)

    return _damaged(stage, "swapped", swap)


def foreign_checkpoint(stage: Stage) -> Verdict:
    """The files of another training, at the same place of its own, are in the newest's folder."""
    with stage.job("foreign-origin") as other:
        other.start()
        _stop_after_two(other)

        def take(newest: Path, _older: Path) -> None:
            theirs = _folder(other, -1)
            shutil.rmtree(newest)
            shutil.copytree(theirs, newest)

        return _damaged(stage, "foreign", take)


def lost_checkpoint(stage: Stage) -> Verdict:
    """The newest checkpoint is gone."""
    return _damaged(stage, "gone", lambda newest, _older: shutil.rmtree(newest))


def full_disk(stage: Stage) -> Verdict:
    """The store's disk is full in a save: the step ends saying so, and goes on when there is room.

    Needs the right to mount a small disk.
    """
    with stage.job("full-disk") as job:
        path = file_path(job.store.uri)
        assert path is not None
        with small_disk(path / "checkpoints"):
            job.start()
            job.wait_for_checkpoints()
            fill(path / "checkpoints")
            codes = job.wait()
            (path / "checkpoints" / "ballast").unlink()
            told = unless(codes == [ExitCode.DISK_FULL], f"it ended with {codes}")
            return verdict(told, stage.finish(job))


def _damaged(stage: Stage, name: str, damage: Callable[[Path, Path], None]) -> Verdict:
    """Damage the newest of two checkpoints: all goes on from the one before, which is told."""
    with stage.job(name) as job:
        job.start()
        _stop_after_two(job)
        damage(_folder(job, -1), _folder(job, -2))
        lost = stage.finish(job)
        noted = [e for e in Ledger(job.store).entries() if isinstance(e.what, Damaged)]
        return verdict(lost, unless(len(noted) == 1, f"{len(noted)} checkpoints told as damaged"))


def _stop_after_two(job: Job) -> None:
    job.wait_for_checkpoints(2)
    job.signal_node(0, signal.SIGKILL)
    job.wait()


def _folder(job: Job, which: int) -> Path:
    path = file_path(job.store.uri)
    assert path is not None
    return path / job.state.checkpoints[which].prefix
