from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from kinetoscope.telemetry.logging_setup import setup_logging


@pytest.fixture(autouse=True)
def _keep_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_plain_lines_have_time_level_logger_and_message() -> None:
    stream = io.StringIO()
    setup_logging(stream=stream, log_format="plain")
    logging.getLogger("kinetoscope.train").info("step %d of %d", 3, 9)
    logging.getLogger("kinetoscope.train").debug("not shown")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("INFO    kinetoscope.train: step 3 of 9")
    assert line[:2] == "20"


def test_json_lines_keep_extra_fields_and_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_LOG_FORMAT", "json")
    stream = io.StringIO()
    setup_logging(stream=stream)
    log = logging.getLogger("kinetoscope.data")
    log.warning("two\nlines", extra={"clip": "c1"})
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("failed")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["message"] == "two\nlines"
    assert (first["level"], first["logger"], first["clip"]) == ("warning", "kinetoscope.data", "c1")
    assert first["time"].endswith("+00:00")
    assert "RuntimeError: broken" in second["exception"]


def test_a_second_call_replaces_the_first_and_leaves_others_handlers() -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    stream = io.StringIO()
    setup_logging(stream=io.StringIO())
    setup_logging(stream=stream)
    logging.getLogger("a").info("once")
    assert stream.getvalue().count("once") == 1
    assert other in logging.getLogger().handlers


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(stream=sys.stderr)
    logging.getLogger("a").info("hello")
    captured = capsys.readouterr()
    assert "hello" in captured.err
    assert not captured.out
