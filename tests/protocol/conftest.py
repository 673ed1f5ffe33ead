"""What all tests of the protocol share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from protocol.courses import MakeProtocol, run_course
from protocol.explore import Run
from protocol.ledger_protocol import LedgerProtocol, open_in_memory


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[MakeProtocol], Run]:
    """Give what runs courses by a protocol."""
    open_in_memory(monkeypatch)
    # Thousands of attempts fail here, and tell of it.
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    return lambda make: lambda course: run_course(course, tmp_path, make)


@pytest.fixture
def run(runner: Callable[[MakeProtocol], Run]) -> Run:
    """Give what runs courses by the real code."""
    return runner(LedgerProtocol)
