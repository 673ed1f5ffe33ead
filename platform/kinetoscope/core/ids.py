"""Identifiers of runs."""

from __future__ import annotations

import secrets

# Lower-case letters and digits that can't be mistaken for each other; the first is always a letter,
# since the name becomes part of Kubernetes object names (RFC 1035 labels).
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def new_run_id() -> str:
    """Return a fresh run id: ``r`` and seven random characters (31**7 = 2.7e10 of them)."""
    return "r" + "".join(secrets.choice(_ALPHABET) for _ in range(7))
