"""What a step has come to, as others see it: its result and how its latest attempt fares."""

from __future__ import annotations

import logging

from kinetoscope.core.errors import CorruptError, StorageError
from kinetoscope.steps.contract import (
    RESULT_KEY,
    Artifact,
    StepResult,
    StepStatus,
    artifact_digest,
    make_again,
    split_step_uri,
    status_key,
    step_identity,
)
from kinetoscope.steps.ledger.entries import Committed, LedgerState
from kinetoscope.steps.ledger.ledger import Ledger, ResultThereError
from kinetoscope.storage.open import open_store
from kinetoscope.storage.records import damage_hint, read_record, shown_name
from kinetoscope.storage.store import ObjectStore

_log = logging.getLogger(__name__)


def step_state(step_uri: str) -> LedgerState:
    """Return the state that a step's ledger comes to; raises ``CorruptError``."""
    with damage_hint(make_again(split_step_uri(step_uri)[0])):
        return Ledger(open_store(step_uri)).state()


def read_result(step_uri: str, state: LedgerState | None = None) -> StepResult | None:
    """Return a step's committed result, or None when it has none.

    Args:
        step_uri: where the step lives.
        state: of the step, where it is known.

    Raises:
        CorruptError: it was changed since it was written, or is of another step, and the ledger
            does not have it.
    """
    store = open_store(step_uri)
    name, _ = split_step_uri(step_uri)
    with damage_hint(make_again(name)):
        try:
            result = _checked(read_record(store, RESULT_KEY, StepResult), store)
        except CorruptError as error:  # a copy of what the ledger has, unless that is gone
            result = _committed(store, state)
            if result is None:
                raise
            _log.warning("taking the result from the ledger: %s; delete that copy", error.message)
        else:  # the copy may not have been made
            result = result or _committed(store, state)
    return result.model_copy(update={"uri": step_uri}) if result is not None else None


def commit_result(store: ObjectStore, ledger: Ledger, result: StepResult) -> None:
    """Enter a result in a step's ledger, which only its latest attempt may.

    To do so again does no harm: an earlier try may have heard no answer.
    """

    def committed(state: LedgerState) -> Committed:
        told = result.model_copy(update={"code_versions": state.code_versions})
        return Committed(result=told.model_dump(mode="json"))

    try:
        state = ledger.append(committed, result.generation)
    except ResultThereError:
        state = ledger.state()
        if state.generation != result.generation:
            raise
    try:
        keep_result(store, state)
    except (StorageError, OSError) as error:  # the ledger has it: made again when it is missed
        _log.warning("the copy of the result is not written: %s", error)


def keep_result(store: ObjectStore, state: LedgerState) -> None:
    """Write the result that the ledger has where others look first, unless it is there."""
    if state.result is not None and store.stat(RESULT_KEY) is None:
        result = StepResult.model_validate(state.result.result)
        store.put_bytes(RESULT_KEY, result.to_bytes())


def upstream_result(name: str, step_uri: str) -> StepResult:
    """Return the result of a step that is an input; raises ``StorageError`` where it has none."""
    result = read_result(step_uri)
    if result is None:
        raise StorageError(f"input {name!r}: no committed result at {step_uri}")
    return result


def artifact_at(store: ObjectStore, name: str, key: str) -> Artifact:
    """Describe what a step wrote; raises ``CorruptError`` where that is nothing."""
    stats = store.list(key)
    if not stats:
        step, _ = split_step_uri(store.uri)
        raise CorruptError(f"step {step} wrote nothing at {key!r} for artifact {name!r}")
    digests = {stat.key: store.digest(stat.key) for stat in stats}
    size_bytes = sum(stat.size_bytes for stat in stats)
    return Artifact(key=key, digest=artifact_digest(key, digests), size_bytes=size_bytes)


def check_artifacts(result: StepResult, run_id: str) -> None:
    """Look whether what a step committed is there, by the sizes alone.

    Args:
        result: of the step.
        run_id: of the run that wants it, which can have it made again.

    Raises:
        CorruptError: something is gone or has another size.
    """
    store = open_store(result.uri)
    for artifact in result.artifacts.values():
        stats = store.list(artifact.key)
        if not stats or sum(stat.size_bytes for stat in stats) != artifact.size_bytes:
            what = "has another size than it had" if stats else "is gone"
            raise CorruptError(
                f"{shown_name(store, artifact.key)}, which step {result.step} made, {what}",
                hint=make_again(result.step, run_id),
            )


def read_status(step_uri: str, state: LedgerState | None = None) -> StepStatus | None:
    """Return the status of a step's latest attempt, or None where it has told nothing yet.

    Args:
        step_uri: where the step lives.
        state: of the step, where it is known.
    """
    generation = (state or step_state(step_uri)).generation
    with damage_hint("kino resume RUN writes it anew"):
        return read_record(open_store(step_uri), status_key(generation), StepStatus)


def read_members(step_uri: str, status: StepStatus) -> list[StepStatus]:
    """Return what the further nodes of an attempt have told, given what its first one has."""
    store = open_store(step_uri)
    keys = [status_key(status.generation, node) for node in range(1, status.num_nodes)]
    found = [read_record(store, key, StepStatus) for key in keys]
    return [told for told in found if told is not None]


def _committed(store: ObjectStore, state: LedgerState | None) -> StepResult | None:
    committed = (state or Ledger(store).state()).result
    return _checked(StepResult.model_validate(committed.result), store) if committed else None


def _checked(result: StepResult | None, store: ObjectStore) -> StepResult | None:
    """Return the result of this step; raise ``CorruptError`` where it is of another."""
    if result is not None and (result.step, result.fingerprint) != split_step_uri(store.uri):
        told = step_identity(result.step, result.fingerprint)
        raise CorruptError(f"{shown_name(store, RESULT_KEY)} is of {told}")
    return result
