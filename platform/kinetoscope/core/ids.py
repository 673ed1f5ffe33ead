"""Identifiers of runs."""

from __future__ import annotations

import hashlib
import secrets

# Lower-case letters and digits that can't be mistaken for each other; the first is always a letter,
# since the name becomes part of Kubernetes object names (RFC 1035 labels).
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def new_run_id() -> str:
    """Return a fresh run id: ``r`` and seven random characters (31**7 = 2.7e10 of them)."""
    return "r" + "".join(secrets.choice(_ALPHABET) for _ in range(7))


def run_id_of(job_id: str) -> str:
    """Return the id of the run that a job of a pipeline's backend begins: always the same one.

    Args:
        job_id: the backend's own id of it, e.g. the UUID of a run of Kubeflow Pipelines.
    """
    number = int.from_bytes(hashlib.sha256(job_id.encode()).digest(), "big")
    letters = []
    for _ in range(7):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "r" + "".join(letters)
