"""The ``kino`` command: its verbs, and how errors end it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kinetoscope.cli.verbs import (
    compile,
    configs,
    data,
    doctor,
    generate,
    logs,
    ls,
    models,
    recipes,
    resume,
    rm,
    run,
    show,
    status,
    stop,
)


class KinoGroup(TyperGroup):
    """Ends the process with ``error:`` and ``hint:`` on stderr and the error's own exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line given in ``args`` or ``sys.argv``."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except Exception as error:
            from kinetoscope.cli.failures import report

            code = report(error)
        except SystemExit as end:
            # Typer and rich end so where nobody reads the help any more (`kino --help | head -1`).
            code = 0 if isinstance(end.__context__, BrokenPipeError) else end.code
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="kino",
    cls=KinoGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train, evaluate and ship text-to-video models: raw videos in, a registered model out.",
    epilog="Start with: kino data synth --out videos && kino run --recipe smoke --videos videos",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from kinetoscope.cli.output import say

        say(f"kinetoscope {version('kinetoscope')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print it and exit."),
    ] = False,
) -> None:
    """Hold what comes before a verb."""


for verb in (
    run.run,
    ls.ls,
    show.show,
    status.status,
    logs.logs,
    resume.resume,
    stop.stop,
    rm.rm,
    compile.compile_,
    generate.generate,
    recipes.recipes,
    doctor.doctor,
):
    name = verb.__name__.rstrip("_")
    app.command(name, epilog=sys.modules[verb.__module__].EXAMPLE)(verb)
for group in (data.app, models.app, configs.app):
    app.add_typer(group)
