"""The ``kino`` command. Modules here import only typer at the top: a verb imports what it calls."""
