"""What a run keeps about itself, at ``<root>/runs/<run id>/``.

run.json              who, when, which config, videos and files of weights
refusal.json          why there is none: what a pipeline was started with was refused
config.json           the resolved RunConfig
videos.jsonl          the list of its videos (`data.sources.listing`)
moved-videos.json     where they lie now, if somebody moved them
buckets.json          how its clips fall into the buckets of its stages
steps/<name>.json     where each of its steps lives (`runs.pins`)
fresh/<name>.json     somebody asked for the step to be made anew
starts/000001.json    each time the run was started or resumed, and what is of that start alone:
starts/000001/        beat.json       its host lives
                      stop.json       somebody asked it to stop
                      failures/<step>.json    why a step failed
                      end.json        how it ended
                      report.html     written by the exit handler
                      reserve         room on the disk to say that it is full
                      mirrored.json   MLflow has all of it
                      logs/<step>.<process>.log   what processes said whose pods do not last
                      launchers/<step>.json   the step's training job, where a cluster runs it

Nothing here holds a URI: a store can be moved, copied, and put into a bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from kinetoscope.config.load import read_resolved
from kinetoscope.config.run import RunConfig
from kinetoscope.core.errors import (
    ConfigError,
    CorruptError,
    NotFoundError,
    RefusedError,
    SupersededError,
    UserError,
)
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.core.settings import run_start
from kinetoscope.data.report.bucket_table import BucketTable
from kinetoscope.runs.record_types import (
    End,
    Failure,
    FreshRequest,
    MovedVideos,
    PlannedBuckets,
    RunRecord,
    RunState,
    Start,
    StepRecord,
)
from kinetoscope.runs.starts.start import RunStart, start_key, way_out
from kinetoscope.steps.contract import STEPS, VideosInput
from kinetoscope.storage.keys import join_uri
from kinetoscope.storage.open import open_store, place_of
from kinetoscope.storage.records import R, damage_hint, read_record, shown_name

RUNS = "runs"
RECORD_KEY = "run.json"
REFUSAL_KEY = "refusal.json"
VIDEOS_KEY = "videos.jsonl"
_MOVED_VIDEOS_KEY = "moved-videos.json"
_CONFIG_KEY = "config.json"
_BUCKETS_KEY = "buckets.json"
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
        if record is None and (refusal := self.refusal()) is not None:
            told = f"run {self.run_id} never began: {refusal.reason}"
            raise RefusedError(told, hint=refusal.hint or None)
        if record is None or record.run_id != self.run_id:
            what = "is missing" if record is None else f"is of run {record.run_id}"
            name = shown_name(self.store, RECORD_KEY)
            raise CorruptError(f"{name} {what}", hint=way_out(self.run_id))
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
            raise CorruptError(f"{name} {what}", hint=way_out(self.run_id))
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

    @property
    def buckets(self) -> dict[str, BucketTable]:
        """How its clips fall into the buckets, by step; empty where they are not prepared."""
        planned = self._read(_BUCKETS_KEY, PlannedBuckets)
        return {} if planned is None else planned.tables

    def note_buckets(self, tables: dict[str, BucketTable]) -> None:
        """Note how its clips fall into the buckets."""
        self.store.put_bytes(_BUCKETS_KEY, PlannedBuckets(tables=tables).to_bytes())

    def create(self, record: RunRecord, config_json: bytes, videos_list: bytes) -> None:
        """Write a new run; its record last, since a run is there when its record is."""
        self.store.put_bytes(VIDEOS_KEY, videos_list)
        self.store.put_bytes(_CONFIG_KEY, config_json)
        self.store.put_bytes(RECORD_KEY, record.to_bytes())

    def exists(self) -> bool:
        """Tell whether its record is there."""
        return self.store.stat(RECORD_KEY) is not None

    def refuse(self, refusal: Failure) -> None:
        """Note why it can't begin; the first reason stays."""
        self.store.put_bytes_if_absent(REFUSAL_KEY, refusal.to_bytes())

    def refusal(self) -> Failure | None:
        """Return why it could not begin; None where it did, or nothing is known."""
        return self._read(REFUSAL_KEY, Failure)

    def begin(self, start: Start, *, after: int) -> RunStart:
        """Note a start; whatever runs of the one before is asked to stop.

        Args:
            start: who runs it.
            after: number of the start that it follows, which was found to have ended, or 0: of two
                commands that found the same, one begins.

        Raises:
            UserError: another command began meanwhile.
        """
        number = after + 1
        begun = start.model_copy(update={"number": number, "place": place_of(self.root_uri)})
        if not self.store.put_bytes_if_absent(start_key(number), begun.to_bytes()):
            raise UserError(
                f"run {self.run_id} was started by another command at this moment",
                hint=f"kino status {self.run_id} shows it, kino stop stops it",
            )
        previous = self.start(after)
        if after and not previous.has_ended():
            previous.request_stop()
            previous.release()
        return self.start(number)

    def start(self, number: int) -> RunStart:
        """Return a start of the run."""
        return RunStart(self.store, self.run_id, self.root_uri, number)

    def latest_start(self) -> RunStart:
        """Return the start that counts."""
        return self.start(self.num_starts())

    def own_start(self) -> RunStart:
        """Return the start that this process works for: the latest where nobody said which."""
        number = run_start()
        return self.latest_start() if number is None else self.start(number)

    def check_latest(self, start: RunStart) -> None:
        """Raise ``SupersededError`` where a start does not count any more."""
        latest = self.num_starts()
        if latest != start.number:
            what = f"was superseded by start {latest}" if latest else "is not on record any more"
            raise SupersededError(f"start {start.number} of run {self.run_id} {what}")

    def num_starts(self) -> int:
        """Return how often the run was started or resumed."""
        found = (_START.fullmatch(stat.key) for stat in self.store.list("starts"))
        return max((int(match[1]) for match in found if match), default=0)

    def end(self) -> End | None:
        """Return how the latest start ended, or None while it has not."""
        return self.latest_start().end()

    def state(self) -> RunState:
        """Return the run's state; a run whose host is gone without an end was interrupted."""
        start = self.latest_start()
        running = start.is_running()
        # The end last: the host may have noted it and gone since.
        end = start.end()
        if end is not None:
            return end.state
        return "running" if running else "interrupted"

    def is_running(self) -> bool:
        """Tell whether the latest start goes on; how an earlier one ended does not matter."""
        return self.latest_start().is_running()

    def note_step(self, record: StepRecord) -> None:
        """Note where a step lives."""
        self.store.put_bytes(f"{STEPS}/{record.name}.json", record.to_bytes())

    def step(self, name: str) -> StepRecord | None:
        """Return a step's record, or None when the run has not come to it."""
        record = self._read(f"{STEPS}/{name}.json", StepRecord)
        if record is not None and record.name != name:
            shown = shown_name(self.store, f"{STEPS}/{name}.json")
            raise CorruptError(f"{shown} is of step {record.name}", hint=way_out(self.run_id))
        return record

    def step_uri(self, record: StepRecord) -> str:
        """Return where a step lives."""
        return join_uri(self.root_uri, record.key)

    def check_steps(self, names: Iterable[str]) -> None:
        """Raise ``NotFoundError`` where the run has no step of one of the names."""
        steps = self.record.steps
        for name in names:
            if name not in steps:
                hint = f"its steps are {', '.join(steps)}"
                raise NotFoundError(f"run {self.run_id} has no step {name!r}", hint=hint)

    def request_fresh(self, name: str) -> None:
        """Ask for a step to be made anew the next time that the run comes to it."""
        self.store.put_bytes(f"fresh/{name}.json", FreshRequest(name=name).to_bytes())

    def fresh_requested(self, name: str) -> bool:
        """Tell whether a step is to be made anew."""
        return self.store.stat(f"fresh/{name}.json") is not None

    def forget_fresh(self, name: str) -> None:
        """Note that the step is pinned anew."""
        self.store.delete(f"fresh/{name}.json")

    def _read(self, key: str, kind: type[R]) -> R | None:
        with damage_hint(way_out(self.run_id)):
            return read_record(self.store, key, kind)
