"""What a run keeps about itself, at ``<root>/runs/<run id>/``.

run.json              who, when, which config, videos and files of weights
config.json           the resolved RunConfig
videos.jsonl          the list of its videos (`data.sources.listing`)
moved-videos.json     where they lie now, if somebody moved them
starts/000001.json    each time the run was started or resumed
steps/<name>.json     where each of its steps lives (`runs.pins`)
fresh/<name>.json     somebody asked for the step to be made anew
stop.json             somebody asked the run to stop
failure.json          the step that ended the latest start, and why
end.json              how the latest start ended
mirrored.json         MLflow has all of the latest start
report.html           written by the exit handler

Nothing here holds a URI: a store can be moved, copied, and put into a bucket.
"""

from __future__ import annotations

import re
from functools import cached_property

from kinetoscope.config.load import read_resolved
from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import ConfigError, CorruptError, NotFoundError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.runs.record_types import (
    End,
    Failure,
    FreshRequest,
    MovedVideos,
    RunRecord,
    RunState,
    Start,
    StepRecord,
)
from kinetoscope.steps.contract import STEPS, VideosInput
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store, place_of
from kinetoscope.storage.records import R, damage_hint, read_record, shown_name

RUNS = "runs"
STOP_KEY = "stop.json"
RECORD_KEY = "run.json"
VIDEOS_KEY = "videos.jsonl"
_MOVED_VIDEOS_KEY = "moved-videos.json"
_CONFIG_KEY = "config.json"
_END_KEY = "end.json"
_FAILURE_KEY = "failure.json"
_MIRRORED_KEY = "mirrored.json"
_START = re.compile(r"starts/(\d{6})\.json")


class Run:
    """Reads and writes a run's records; those that were damaged raise ``CorruptError``."""

    def __init__(self, root_uri: str, run_id: str) -> None:
        self.root_uri = root_uri
        self.run_id = run_id
        self.store = open_store(join_uri(root_uri, f"{RUNS}/{run_id}"))

    @property
    def uri(self) -> str:
        """Where the run keeps its records."""
        return self.store.uri

    @cached_property
    def record(self) -> RunRecord:
        """The run itself, which never changes: read once."""
        record = self._read(RECORD_KEY, RunRecord)
        if record is None or record.run_id != self.run_id:
            what = "is missing" if record is None else f"is of run {record.run_id}"
            name = shown_name(self.store, RECORD_KEY)
            raise CorruptError(f"{name} {what}", hint=self._way_out)
        return record

    @property
    def config(self) -> RunConfig:
        """The resolved config; raises ``ConfigError`` where this version has no such config."""
        try:
            return read_resolved(self.config_json, f"what run {self.run_id} was started with")
        except ConfigError as error:
            raise ConfigError(
                error.message,
                hint="another version began the run: go on with that one, or start a new run",
            ) from None

    @property
    def config_json(self) -> bytes:
        """The resolved config as it was stored."""
        expected = self.record.config_digest
        try:
            data = self.store.get_bytes(_CONFIG_KEY)
        except NotFoundError:
            data = b""
        if digest_bytes(data) != expected:
            name = shown_name(self.store, _CONFIG_KEY)
            what = "does not match its digest" if data else "is missing"
            raise CorruptError(f"{name} {what}", hint=self._way_out)
        return data

    @property
    def videos(self) -> VideosInput:
        """The source videos, where they lie now."""
        moved = self._read(_MOVED_VIDEOS_KEY, MovedVideos)
        given = self.record.videos
        return given if moved is None else given.model_copy(update={"place": moved.place})

    def note_moved_videos(self, moved: MovedVideos) -> None:
        """Note where the source videos lie now."""
        self.store.put_bytes(_MOVED_VIDEOS_KEY, moved.to_bytes())

    def create(self, record: RunRecord, config_json: bytes, videos_list: bytes) -> None:
        """Write a new run; its record last, since a run is there when its record is."""
        self.store.put_bytes(VIDEOS_KEY, videos_list)
        self.store.put_bytes(_CONFIG_KEY, config_json)
        self.store.put_bytes(RECORD_KEY, record.to_bytes())

    def begin(self, start: Start) -> None:
        """Note a start; forgets an earlier stop and end."""
        for key in (STOP_KEY, _END_KEY, _FAILURE_KEY, _MIRRORED_KEY):
            self.store.delete(key)
        begun = start.model_copy(update={"place": place_of(self.root_uri)})
        self.store.put_bytes(f"starts/{self.num_starts() + 1:06d}.json", begun.to_bytes())

    def finish(self, end: End) -> None:
        """Note how this start ended."""
        self.store.put_bytes(_END_KEY, end.to_bytes())

    def note_failure(self, failure: Failure) -> None:
        """Note why this start ends; the first reason stays."""
        self.store.put_bytes_if_absent(_FAILURE_KEY, failure.to_bytes())

    def failure(self) -> Failure | None:
        """Return why the latest start ended, or None where no step told."""
        return self._read(_FAILURE_KEY, Failure)

    def end(self) -> End | None:
        """Return how the latest start ended, or None while it has not."""
        with damage_hint(f"kino resume {self.run_id} writes it anew"):
            return read_record(self.store, _END_KEY, End)

    def num_starts(self) -> int:
        """Return how often the run was started or resumed."""
        found = (_START.fullmatch(stat.key) for stat in self.store.list("starts"))
        return max((int(match[1]) for match in found if match), default=0)

    def latest_start(self) -> Start | None:
        """Return the latest start."""
        number = self.num_starts()
        return self._read(f"starts/{number:06d}.json", Start) if number else None

    def state(self) -> RunState:
        """Return the run's state; a run whose process is gone without an end was interrupted."""
        end = self.end()
        if end is not None:
            return end.state
        return "running" if self.is_running() else "interrupted"

    def is_running(self) -> bool:
        """Tell whether the latest start goes on; how an earlier one ended does not matter."""
        if self.store.stat(_END_KEY) is not None:
            return False
        start = self.latest_start()
        # In a copy of the workspace, or after a move, nobody runs what began elsewhere.
        here = start is not None and start.place == place_of(self.root_uri)
        return here and start is not None and not start.process.is_gone()

    def request_stop(self) -> None:
        """Ask the run's steps to save and stop."""
        self.store.put_bytes(STOP_KEY, b"{}")

    def stop_requested(self) -> bool:
        """Tell whether somebody asked the run to stop."""
        return self.store.stat(STOP_KEY) is not None

    def note_mirrored(self) -> None:
        """Note that MLflow has all of the latest start."""
        self.store.put_bytes(_MIRRORED_KEY, b"{}")

    def is_mirrored(self) -> bool:
        """Tell whether MLflow has got all of the latest start."""
        return self.store.stat(_MIRRORED_KEY) is not None

    def note_step(self, record: StepRecord) -> None:
        """Note where a step lives."""
        self.store.put_bytes(f"{STEPS}/{record.name}.json", record.to_bytes())

    def step(self, name: str) -> StepRecord | None:
        """Return a step's record, or None when the run has not come to it."""
        record = self._read(f"{STEPS}/{name}.json", StepRecord)
        if record is not None and record.name != name:
            shown = shown_name(self.store, f"{STEPS}/{name}.json")
            raise CorruptError(f"{shown} is of step {record.name}", hint=self._way_out)
        return record

    def step_uri(self, record: StepRecord) -> str:
        """Return where a step lives."""
        return join_uri(self.root_uri, record.key)

    def request_fresh(self, name: str) -> None:
        """Ask for a step to be made anew the next time that the run comes to it."""
        self.store.put_bytes(f"fresh/{name}.json", FreshRequest(name=name).to_bytes())

    def fresh_requested(self, name: str) -> bool:
        """Tell whether a step is to be made anew."""
        return self.store.stat(f"fresh/{name}.json") is not None

    def forget_fresh(self, name: str) -> None:
        """Note that the step is pinned anew."""
        self.store.delete(f"fresh/{name}.json")

    @property
    def _way_out(self) -> str:
        return f"restore the file, or kino rm {self.run_id}: finished steps serve other runs"

    def _read(self, key: str, kind: type[R]) -> R | None:
        with damage_hint(self._way_out):
            return read_record(self.store, key, kind)
