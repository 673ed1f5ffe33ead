"""How an error ends the command: two lines on stderr and an exit code."""

from __future__ import annotations

import typer

from kinetoscope.core.errors import ExitCode, KinetoscopeError
from kinetoscope.core.settings import debug_enabled

_ABORTED = 130


def report(error: Exception) -> int:
    """Write the error to stderr and return the exit code; ``KINO_DEBUG=1`` raises it."""
    if debug_enabled():
        raise error
    message, hint, code = _explain(error)
    if message:
        typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    return code


def _explain(error: Exception) -> tuple[str, str, int]:
    if isinstance(error, KinetoscopeError):
        return error.message, error.hint or "", int(error.exit_code)
    if isinstance(error, typer.Abort):
        return "aborted", "", _ABORTED
    if hasattr(error, "format_message"):  # typer's own: a wrong option or argument
        return _usage(error)
    hint = "set KINO_DEBUG=1 to see where; if it looks like a bug, it is one"
    return f"{type(error).__name__}: {error}", hint, ExitCode.FAILED


def _usage(error: Exception) -> tuple[str, str, int]:
    context = getattr(error, "ctx", None)
    code = int(getattr(error, "exit_code", ExitCode.USER_ERROR))
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is on the screen already
        return "", "", code
    message = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
    path = context.command_path if context else "kino"
    return message[:1].lower() + message[1:], f"{path} --help", code
