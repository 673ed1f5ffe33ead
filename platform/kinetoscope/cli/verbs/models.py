"""``kino models``: the model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinetoscope.cli.verbs.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kinetoscope.inference.lost_versions import Rebuilt
    from kinetoscope.inference.released_models import Generation
    from kinetoscope.storage.store import ObjectStore
    from kinetoscope.tracking.versions import ModelVersion

app = typer.Typer(
    name="models",
    help="List, show, promote, import, export and rebuild models.",
    no_args_is_help=True,
)

Reference = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME, NAME/VERSION or NAME@ALIAS.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the registered model.")]
Folder = Annotated[
    Path | None, typer.Option("--from", help="Folder that `kino models export` wrote.")
]
DiT = Annotated[Path | None, typer.Option("--dit", help="Folder or file of the transformer.")]
VAE = Annotated[Path | None, typer.Option("--vae", help="Folder or file of the video VAE.")]
TextEncoder = Annotated[
    Path | None, typer.Option("--text-encoder", help="Folder of T5 in transformers' layout.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; new or empty.")]
DeletedToo = Annotated[
    bool, typer.Option("--deleted-too", help="Also those that were deleted, with new numbers.")
]
ShardGib = Annotated[float, typer.Option("--shard-gib", min=0, help="Largest weight file, GiB.")]


@app.command(epilog="Example: kino models ls")
def ls(as_json: Json = False) -> None:
    """List all versions of all registered models."""
    from kinetoscope.cli.output import emit_json, local_time, say, say_message, table
    from kinetoscope.cli.registered import list_versions, nothing_hint

    versions = list_versions()
    why = None if versions else nothing_hint()
    if why:
        say_message("hint", why)
    if as_json:
        emit_json([version.model_dump(mode="json") for version in versions])
        return
    rows = [(v.ref, ", ".join(v.aliases) or "-", local_time(v.created_at)) for v in versions]
    say(*(table(("model", "aliases", "created"), rows) if rows else ["no models yet"]))


@app.command(epilog="Example: kino models show kinetoscope@champion")
def show(model: Reference, as_json: Json = False) -> None:
    """Show a version's aliases, scores and lineage."""
    from kinetoscope.cli.output import emit_json, local_time, say
    from kinetoscope.cli.registered import find_version

    version = find_version(model)
    if as_json:
        emit_json(version.model_dump(mode="json"))
        return
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    say(f"{version.ref}{aliases}", f"created {local_time(version.created_at)}")
    say(f"bundle  {_place(version)}", f"        {version.bundle_digest}", "")
    for name, value in sorted(version.scores.items()):
        say(f"{name:<40}{value:.4g}")
    for name, text in sorted(version.tags.items()):
        say(f"{name:<40}{text}")


@app.command(epilog="Example: kino models promote kinetoscope/3")
def promote(model: Reference, as_json: Json = False) -> None:
    """Make a version the champion, which kino generate uses by default."""
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.registered import find_version, registry
    from kinetoscope.core.settings import workspace
    from kinetoscope.storage.open import open_store

    found = find_version(model, default_alias="candidate")
    known = registry()
    with known.exclusive():
        version = known.promote(found.ref, open_store(workspace().store_uri))
    if as_json:
        emit_json(version.model_dump(mode="json"))
    else:
        say(f"{version.ref} is the champion now")


@app.command(epilog="Example: kino models rebuild")
def rebuild(deleted_too: DeletedToo = False, as_json: Json = False) -> None:
    """Register the versions again that a lost registry had.

    Each registration left a record beside the weights. What is registered stays as it is.
    """
    from dataclasses import asdict

    from kinetoscope.cli.output import emit_json, say, say_message
    from kinetoscope.cli.registered import absence_hint

    told, absent = _rebuild(deleted_too=deleted_too), absence_hint()
    if absent:
        say_message("hint", absent)
    if as_json:
        emit_json(asdict(told))
    else:
        say(*(list(_tell(told)) or ["nothing is missing"]))


@app.command("import", epilog="Example: kino models import sora --from exported")
def import_(
    name: Name,
    folder: Folder = None,
    dit: DiT = None,
    vae: VAE = None,
    text_encoder: TextEncoder = None,
    as_json: Json = False,
) -> None:
    """Register a model in Open-Sora 1.2's released layout as a new version.

    Give --from, or the released parts with --dit, --vae and --text-encoder.
    """
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.targets import check_inputs
    from kinetoscope.tracking.references import check_name

    check_name(name)
    if folder is not None:
        dit, vae = dit or folder / "dit", vae or folder / "vae"
    if dit is None or vae is None or (folder is None and text_encoder is None):
        raise typer.BadParameter("give --from, or --dit, --vae and --text-encoder")
    exported = folder / "generation.json" if folder is not None and text_encoder is None else None
    check_inputs([dit, vae, text_encoder, exported])
    version = _import(name, dit, vae, _generation(folder, dit, text_encoder))
    if as_json:
        emit_json(version.model_dump(mode="json"))
    else:
        say(version.ref)


@app.command(epilog="Example: kino models export kinetoscope/3 --out exported")
def export(model: Reference, out: Out, shard_gib: ShardGib = 5.0, as_json: Json = False) -> None:
    """Write a version (its EMA weights) in Open-Sora 1.2's released layout."""
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.cli.registered import find_version, open_bundle
    from kinetoscope.cli.targets import check_empty_folder

    version = find_version(model)
    check_empty_folder(out)
    written = _export(open_bundle(version), out, shard_gib)
    if as_json:
        emit_json({"model": version.ref, "files": [str(path.resolve()) for path in written]})
    else:
        say(f"{version.ref}: {len(written)} files in {out}")


def _export(model: ObjectStore, out: Path, shard_gib: float) -> list[Path]:
    from kinetoscope.cli.registered import load_bundle
    from kinetoscope.core.units import GIB
    from kinetoscope.inference.released_models import export_bundle

    return export_bundle(load_bundle(model), out, max_shard_bytes=int(shard_gib * GIB))


def _place(version: ModelVersion) -> str:
    from kinetoscope.cli.registered import open_bundle
    from kinetoscope.core.errors import KinetoscopeError

    try:
        return open_bundle(version).uri
    except KinetoscopeError as error:
        return error.message


def _rebuild(*, deleted_too: bool) -> Rebuilt:
    from kinetoscope.cli.registered import registry
    from kinetoscope.core.settings import workspace
    from kinetoscope.inference.lost_versions import Rebuilt, rebuild
    from kinetoscope.storage.open import open_store
    from kinetoscope.tracking.version_records import record_keys

    store = open_store(workspace().store_uri)
    # Where nothing is recorded there is nothing to make a registry for.
    return rebuild(registry(), store, deleted_too=deleted_too) if record_keys(store) else Rebuilt()


def _tell(told: Rebuilt) -> Iterator[str]:
    for ref, recorded in told.made.items():
        yield f"{ref} is back" + (f"; it was {recorded}" if ref != recorded else "")
    for ref, reason in told.passed_over.items():
        yield f"{ref} is passed over: {reason}"
    for ref in told.deleted:
        yield f"{ref} was deleted and stays so; --deleted-too registers it again"
    for name, newest in told.without_champion.items():
        yield f"{name} has no champion now; to name one: kino models promote {newest}"


def _generation(folder: Path | None, dit: Path, text_encoder: Path | None) -> Generation:
    from kinetoscope.inference.released_models import GENERATION, read_generation, t5_generation

    if text_encoder is None:
        assert folder is not None
        return read_generation(folder / GENERATION)
    encoded = t5_generation(dit, text_encoder)
    if folder is None:
        return encoded
    return read_generation(folder / GENERATION).model_copy(
        update={"text_encoder": encoded.text_encoder}
    )


def _import(name: str, dit: Path, vae: Path, generation: Generation) -> ModelVersion:
    import tempfile

    from kinetoscope.cli.registered import registry
    from kinetoscope.core.settings import workspace
    from kinetoscope.inference.bundle import write_bundle
    from kinetoscope.inference.manifest import MANIFEST, bundle_digest
    from kinetoscope.inference.released_models import LAYOUT, import_bundle
    from kinetoscope.storage.open import open_store
    from kinetoscope.tracking.versions import NewVersion

    bundle = import_bundle(dit, vae, generation)
    store = open_store(workspace().store_uri)
    scratch = workspace().scratch_path
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        key = write_bundle(store, f"models/{name}", bundle, Path(folder))
    new = NewVersion(
        name=name,
        bundle_key=key,
        bundle_digest=bundle_digest(store.get_bytes(f"{key}/{MANIFEST}")),
        tags={
            "kinetoscope.dev/imported": LAYOUT,
            "kinetoscope.dev/imported.dit": dit.resolve().name,
            "kinetoscope.dev/imported.vae": vae.resolve().name,
        },
    )
    known = registry()
    with known.exclusive():
        return known.register_version(new, store)
