"""Whether somebody who keeps changing an object is still there."""

from __future__ import annotations

import time

from kinetoscope.core.errors import NotFoundError, StorageError
from kinetoscope.core.hashing import digest_bytes
from kinetoscope.storage.store import ObjectStore

_LOOK_SECONDS = 15.0
# Longer than anything between two looks takes: this process was paused, or its machine.
_LONGEST_LOOK_SECONDS = 60.0


class SignOfLife:
    """Looks whether an object changes, which may be absent, by this process's clock alone.

    Time in which the store could not be read, or in which this process did not look, says nothing
    of whoever changes the object, who gets the whole time again.

    Args:
        store: of the object.
        key: of the object.
        beside: key of an object that is there as long as the store is: that of a disk which is not
            mounted seems empty.
        seconds: without a change, after which whoever changes it counts as gone.
    """

    def __init__(self, store: ObjectStore, key: str, beside: str, seconds: float) -> None:
        self._store = store
        self._key = key
        self._beside = beside
        self._seconds = seconds
        self._seen = ""
        self._since: float | None = None
        self._looked_at = time.monotonic()

    @property
    def look_seconds(self) -> float:
        """How long to wait between two looks."""
        return min(_LOOK_SECONDS, self._seconds / 4)

    def is_gone(self) -> bool:
        """Look; raises ``StorageError`` or ``OSError`` where the store does not answer."""
        began = time.monotonic()
        if began - self._looked_at > _LONGEST_LOOK_SECONDS:
            self._since = None
        try:
            found = self._digest()
        except BaseException:
            self._since = None
            raise
        finally:
            self._looked_at = time.monotonic()
        if self._since is None or found != self._seen:
            self._seen, self._since = found, self._looked_at
        return began - self._since > self._seconds

    def _digest(self) -> str:
        try:
            return digest_bytes(self._store.get_bytes(self._key))
        except NotFoundError:
            if self._store.stat(self._beside) is None:
                raise StorageError(f"{self._store.uri} lacks {self._beside}, too") from None
            return ""
