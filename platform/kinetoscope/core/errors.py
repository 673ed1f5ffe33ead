"""Every error that Kinetoscope raises on purpose.

    KinetoscopeError                 1   something failed; a retry may help
    |-- UserError                    2   the user has to change something; never retried
    |   |-- ConfigError              2   a run config or an override is wrong
    |   |-- DataError                2   the user's videos or captions can't be used
    |   |-- NotFoundError            2   a run, a model or an object that was named does not exist
    |   |-- GateError                2   a quality gate was not passed
    |   +-- RefusedError             2   a run never began: what it was given was refused
    |-- StorageError                 1   the object store did not do what it was asked
    |   |-- CorruptError             1   stored data does not match its manifest
    |   +-- DiskFullError           74   a disk that is written to is full
    |-- ClusterError                 1   the Kubernetes API did not do what it was asked
    |-- SupersededError              1   a later attempt of the same step has taken over
    |-- PreemptedError              75   told to stop; the state is saved
    |   +-- WithdrawnError          79   the same, and nobody waits for it any more
    |-- StalledError                76   no progress for too long
    |-- DivergedError               77   the loss is not finite
    +-- LostPeerError               78   another rank has ended, or can't be reached

The number is the exit code of a process that ends with the error (`ExitCode`).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every step."""

    DONE = 0
    FAILED = 1
    USER_ERROR = 2
    DISK_FULL = 74
    PREEMPTED = 75
    STALLED = 76
    DIVERGED = 77
    LOST_PEER = 78
    WITHDRAWN = 79


class KinetoscopeError(Exception):
    """Base of all errors.

    Args:
        message: what was given and what is allowed, with the values.
        hint: what to do about it.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(KinetoscopeError):
    """The user has to change something; a retry can't help."""

    exit_code = ExitCode.USER_ERROR


class ConfigError(UserError):
    """A run config or an override is wrong."""


class DataError(UserError):
    """The given videos or captions can't be used."""


class NotFoundError(UserError):
    """A named run, model or object does not exist."""


class GateError(UserError):
    """A quality gate was not passed."""


class RefusedError(UserError):
    """A run never began, since what its pipeline was started with was refused."""


class StorageError(KinetoscopeError):
    """The object store did not do what it was asked."""


class CorruptError(StorageError):
    """Stored data does not match its manifest."""


class DiskFullError(StorageError):
    """A disk that is written to is full; where no reason can be written, the code tells it."""

    exit_code = ExitCode.DISK_FULL


class ClusterError(KinetoscopeError):
    """The Kubernetes API did not do what it was asked."""


class SupersededError(KinetoscopeError):
    """A later attempt of the same step has taken over; this one may not commit."""


class PreemptedError(KinetoscopeError):
    """The step was told to stop; its state is saved."""

    exit_code = ExitCode.PREEMPTED


class WithdrawnError(PreemptedError):
    """The step was told to stop for good: its state is saved, and nobody waits for it any more."""

    exit_code = ExitCode.WITHDRAWN


class StalledError(KinetoscopeError):
    """The step made no progress for too long."""

    exit_code = ExitCode.STALLED


class DivergedError(KinetoscopeError):
    """The loss or the gradient is not finite."""

    exit_code = ExitCode.DIVERGED


class LostPeerError(KinetoscopeError):
    """Another rank of the step has ended or can't be reached; why is told where it ran."""

    exit_code = ExitCode.LOST_PEER
