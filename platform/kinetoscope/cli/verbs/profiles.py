"""``kino config profiles``: how to reach each cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinetoscope.cli.verbs.options import Json

if TYPE_CHECKING:
    from kinetoscope.kube.profiles import Profile, Profiles

app = typer.Typer(
    name="profiles",
    help="Clusters: how to reach each, and where Kinetoscope lives on it.",
    no_args_is_help=True,
)

ADD_EXAMPLE = (
    "Example: kino config profiles add lab --context lab-admin --namespace kubeflow, "
    "or: kino config profiles add pod --in-cluster, or: kino config profiles add remote "
    "--endpoint https://k8s.example.com:6443 --token-file ~/.kino-token --ca-file ~/k8s-ca.crt"
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the profile.")]
Namespace = Annotated[str | None, typer.Option(help="Where the runs are (default kubeflow).")]
Release = Annotated[str | None, typer.Option(help="The chart's release (default kinetoscope).")]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="A kubeconfig; without it $KUBECONFIG or ~/.kube/config.")
]
Context = Annotated[str | None, typer.Option(help="A context of the kubeconfig.")]
InCluster = Annotated[bool, typer.Option("--in-cluster", help="Use the pod's ServiceAccount.")]
Endpoint = Annotated[str | None, typer.Option(help="Address of the API: https://HOST[:PORT].")]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with a bearer token; read again for every call.")
]
CaFile = Annotated[Path | None, typer.Option(help="File with the CA that signed the endpoint.")]


@app.command("list", epilog="Example: kino config profiles list")
def list_(as_json: Json = False) -> None:
    """List the profiles; a star marks the current one."""
    from kinetoscope.cli.output import emit_json, say, table
    from kinetoscope.kube.profiles import load_profiles

    profiles = load_profiles()
    if as_json:
        emit_json(_to_json(profiles))
        return
    rows = [
        ("*" if one.name == profiles.current else "", one.name, one.namespace, one.way)
        for one in profiles.profiles
    ]
    nothing = "no profiles yet: $KUBECONFIG, ~/.kube/config or the pod's ServiceAccount is used"
    say(*(table(("", "profile", "namespace", "connects by"), rows) if rows else [nothing]))


@app.command(epilog="Example: kino config profiles show lab --json")
def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None, as_json: Json = False
) -> None:
    """Show a profile; without a name, the one that would be used now."""
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.kube.profiles import choose_profile

    profile = choose_profile(name)
    if as_json:
        emit_json(profile.to_json())
        return
    for key, value in profile.to_json().items():
        if value not in (None, False):
            say(f"{key:<12}{value}")
    say(f"{'connects by':<12}{profile.way}")


@app.command(epilog=ADD_EXAMPLE)
def add(
    name: Name,
    namespace: Namespace = None,
    release: Release = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    in_cluster: InCluster = False,
    endpoint: Endpoint = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    as_json: Json = False,
) -> None:
    """Add a profile; the first one becomes the current one. Nothing is sent to the cluster.

    Give --kubeconfig and/or --context, or --in-cluster, or --endpoint with --token-file.
    """
    from kinetoscope.kube.profiles import load_profiles, make_profile

    given: dict[str, Any] = {
        "namespace": namespace,
        "release": release,
        "kubeconfig": _absolute(kubeconfig),
        "context": context,
        "endpoint": endpoint,
        "token_file": _absolute(token_file),
        "ca_file": _absolute(ca_file),
    }
    values = {key: value for key, value in given.items() if value is not None}
    profile = make_profile(name=name, in_cluster=in_cluster, **values)
    _save(load_profiles().with_profile(profile), profile, "added", as_json=as_json)


@app.command(epilog="Example: kino config profiles use lab")
def use(name: Name, as_json: Json = False) -> None:
    """Make a profile the current one."""
    from kinetoscope.kube.profiles import load_profiles

    profiles = load_profiles().with_current(name)
    _save(profiles, profiles.get(name), "is the current profile now", as_json=as_json)


@app.command(epilog="Example: kino config profiles rm lab")
def rm(name: Name, as_json: Json = False) -> None:
    """Remove a profile; the files that it names stay."""
    from kinetoscope.kube.profiles import load_profiles

    profiles = load_profiles()
    _save(profiles.without(name), profiles.get(name), "removed", as_json=as_json)


def _absolute(path: Path | None) -> Path | None:
    # What begins with ~ is for the profile to read.
    return path if path is None or str(path).startswith("~") else path.absolute()


def _save(profiles: Profiles, profile: Profile, what: str, *, as_json: bool) -> None:
    from kinetoscope.cli.output import emit_json, say
    from kinetoscope.kube.profiles import save_profiles

    path = save_profiles(profiles)
    if as_json:
        emit_json(_to_json(profiles))
    else:
        say(f"{profile.name}: {what} ({path})")


def _to_json(profiles: Profiles) -> dict[str, Any]:
    from kinetoscope.core.settings import profiles_path

    path = profiles_path()
    return {"file": path and str(path), **profiles.to_json()}
