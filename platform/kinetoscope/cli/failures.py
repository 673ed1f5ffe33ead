"""How an error ends the command: two lines on stderr and an exit code."""

from __future__ import annotations

import json
from typing import Any

import typer

from kinetoscope.cli.output import say_message
from kinetoscope.core.errors import ExitCode, KinetoscopeError
from kinetoscope.core.settings import debug_enabled

_ABORTED = 130
_DEBUG = "KINO_DEBUG=1 shows where"
_CUT_SHORT = f"if it is stored, another version wrote it, or it was cut short; {_DEBUG}"
_HELP = "kino VERB --help says what is asked for, docs/troubleshooting.md what often helps"


def report(error: Exception) -> int:
    """Write the error to stderr and return the exit code; ``KINO_DEBUG=1`` raises it."""
    if debug_enabled():
        raise error
    message, hint, code = _explain(error)
    if message:
        say_message("error", message)
    if hint:
        say_message("hint", hint)
    return code


def _explain(error: Exception) -> tuple[str, str, int]:
    if isinstance(error, KinetoscopeError):
        return error.message, error.hint or _HELP, int(error.exit_code)
    if isinstance(error, typer.Abort):
        return "aborted", "", _ABORTED
    if hasattr(error, "format_message"):  # typer's own: a wrong option or argument
        return _usage(error)
    return _unforeseen(error)


def _usage(error: Exception) -> tuple[str, str, int]:
    context = getattr(error, "ctx", None)
    code = int(getattr(error, "exit_code", ExitCode.USER_ERROR))
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is on the screen already
        return "", "", code
    message = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
    path = context.command_path if context else "kino"
    return message[:1].lower() + message[1:], f"{path} --help", code


def _unforeseen(error: Exception) -> tuple[str, str, int]:
    """Tell what no code of ours foresaw: the system's word, a stored file's, or a bug."""
    from kinetoscope.core.full_disk import disk_full_error

    full = disk_full_error(error)
    if full is not None:
        return full.message, full.hint or "", int(full.exit_code)
    first = str(error).strip().partition("\n")[0]
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).mro()}
    if isinstance(error, OSError):
        return _of_the_system(error)
    if "pydantic_core.ValidationError" in kinds:
        return _of_a_record(error)
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        return f"a file is not what it should be: {first}", _CUT_SHORT, ExitCode.FAILED
    if kinds & {"mlflow.MlflowException", "sqlalchemy.SQLAlchemyError", "sqlite3.Error"}:
        hint = f"kino doctor examines MLflow's database or server; {_DEBUG}"
        return f"the model registry did not answer: {first}", hint, ExitCode.FAILED
    told = f"{type(error).__name__}: {first}".removesuffix(": ")
    return f"{told}; this is a bug", f"{_DEBUG}; please report it with that", ExitCode.FAILED


def _of_the_system(error: OSError) -> tuple[str, str, int]:
    what = error.strerror or str(error) or type(error).__name__
    names = " to ".join(str(name) for name in (error.filename, error.filename2) if name)
    message = f"{names}: {what}" if names else what
    return message, f"look at that file or folder and who may use it; {_DEBUG}", ExitCode.FAILED


def _of_a_record(error: Any) -> tuple[str, str, int]:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    told = [f"this is no valid {error.title}", where, str(first["msg"])]
    return ": ".join(part for part in told if part), _CUT_SHORT, ExitCode.FAILED
