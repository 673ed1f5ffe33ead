"""Logging of our processes: one line per record on stderr, plain or JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["plain", "json"]

_PLAIN = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
# Attributes that every record has; others were given with ``extra`` and are kept as fields.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """One JSON object per record: time (UTC), level, logger, message, and what ``extra`` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def log_formatter(log_format: LogFormat | None = None) -> logging.Formatter:
    """Return what writes a record as a line, by default as ``$KINO_LOG_FORMAT`` says."""
    chosen = log_format or os.environ.get("KINO_LOG_FORMAT", "plain")
    return JSONFormatter() if chosen == "json" else logging.Formatter(_PLAIN)


def setup_logging(
    *,
    log_format: LogFormat | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send the log records of this process to a stream; a second call replaces the first.

    Args:
        log_format: by default ``$KINO_LOG_FORMAT`` (``json``, else plain lines).
        stream: stderr by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(log_formatter(log_format))
    root = logging.getLogger()
    for old in [old for old in root.handlers if getattr(old, "kinetoscope", False)]:
        root.removeHandler(old)
    handler.kinetoscope = True  # type: ignore[attr-defined]  # tells ours from others' handlers
    root.addHandler(handler)
    root.setLevel(logging.INFO)
