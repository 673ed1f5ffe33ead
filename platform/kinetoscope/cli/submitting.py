"""Bring videos to a cluster, and follow what was submitted there."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.pipelines.cluster.backend import Backend
    from kinetoscope.runs.records import Run

_POLL_SECONDS = 2.0


def place_of_videos(given: str) -> str:
    """Return the URI of videos as pods read them: a folder of this machine is uploaded first.

    Args:
        given: path or URI, as a user writes it.
    """
    from kinetoscope.cli.counter import Counter
    from kinetoscope.cli.uploading import upload_folder
    from kinetoscope.core.units import format_bytes
    from kinetoscope.data.sources.place import place_name

    name = place_name(given)
    if name.startswith("s3://"):
        return name
    with Counter("files looked at") as looked, Counter("", format_bytes) as sent:
        return upload_folder(name, None, None, (looked, sent)).manifest


def tell_submitted(
    backend: Backend, run_id: str, job_id: str, *, wait: bool, as_json: bool
) -> None:
    """Say which run was submitted, and follow it if that is asked for.

    Raises:
        KinetoscopeError: with the exit code of the step that ended the run.
    """
    from kinetoscope.cli.output import emit_json, say

    if not wait:
        if as_json:
            emit_json({"run": run_id, "kubeflow_run": job_id})
        else:
            say(f"run {run_id} (Kubeflow: {job_id})")
            say(f"kino status {run_id} --on cluster shows it")
        return
    if not as_json:
        say(f"run {run_id} (Kubeflow: {job_id})")
    _follow(backend, run_id, job_id, as_json=as_json)


def _follow(backend: Backend, run_id: str, job_id: str, *, as_json: bool) -> None:
    from kinetoscope.cli.following import tell_end
    from kinetoscope.cli.live import display
    from kinetoscope.core.errors import CorruptError, KinetoscopeError
    from kinetoscope.core.settings import workspace
    from kinetoscope.pipelines.cluster.pipelines_api import ENDED
    from kinetoscope.runs.records import Run

    run = Run(workspace().store_uri, run_id)

    def has_begun() -> bool:
        if _has_begun(run, job_id):
            return True
        state = backend.pipelines.run_state(job_id)
        if state in ENDED and not _has_begun(run, job_id):
            run.record  # noqa: B018 - says why it was refused
            raise KinetoscopeError(f"run {run_id} never began: its pipeline is {state}")
        return False

    _wait_for(has_begun)
    with display(run) as shown:

        def look() -> bool:
            with suppress(CorruptError):
                shown.update()
            return _is_over(backend, run, job_id)

        _wait_for(look)
        shown.update()
    tell_end(run, run.latest_start(), as_json=as_json)


def _wait_for(look: Callable[[], bool]) -> None:
    """Look until something is so. A cluster or store that does not answer says nothing of a run."""
    from kinetoscope.cli.output import say
    from kinetoscope.core.errors import StorageError
    from kinetoscope.kube.api_errors import ApiError
    from kinetoscope.kube.patience import passes
    from kinetoscope.steps.repeating import may_pass

    told = ""
    while True:
        try:
            if look():
                return
            told = ""
        except (ApiError, StorageError) as error:
            if not (passes(error) if isinstance(error, ApiError) else may_pass(error)):
                raise
            if error.message != told:
                say(f"{error.message}; looking again", err=True)
            told = error.message
        time.sleep(_POLL_SECONDS)


def _has_begun(run: Run, job_id: str) -> bool:
    record = run.latest_start().record
    return record is not None and record.job_id == job_id


def _is_over(backend: Backend, run: Run, job_id: str) -> bool:
    return not _has_begun(run, job_id) or backend.is_over(run.latest_start())
