"""The environment, read in one place (that of MLflow in `core.mlflow_variables`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.units import GIB
from kinetoscope.core.uris import is_text, sqlite_uri

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a laptop keeps everything: object store, registry database, scratch space."""

    root: Path

    @property
    def store_uri(self) -> str:
        """URI of the object store's root: ``$KINO_STORE_URI``, else a folder of the workspace."""
        given = given_store_uri()
        return given.rstrip("/") if given else (self.root / "objects").as_uri()

    @property
    def absence(self) -> str | None:
        """That there is no such workspace, in words; None where it is there.

        Who has said where objects are may be without one.
        """
        if given_store_uri() or self.root.is_dir():
            return None
        if self.root.exists():
            return f"{self.root} is no folder, so no workspace is there"
        return f"there is no workspace at {self.root}"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database (sqlite), as MLflow wants it."""
        return sqlite_uri(self.root / "mlflow.db")

    @property
    def artifacts_path(self) -> Path:
        """Where the embedded MLflow keeps its small artifacts."""
        return self.root / "mlartifacts"

    @property
    def digests_path(self) -> Path:
        """Digests of files that were read before; safe to delete."""
        return self.root / "digests.json"

    @property
    def video_cache_path(self) -> Path:
        """Blocks of videos that lie in a bucket; safe to delete."""
        return self.scratch_path / "videos"

    @property
    def scratch_path(self) -> Path:
        """Temporary files of running steps; safe to delete when nothing runs."""
        return self.root / "scratch"


def workspace() -> Workspace:
    """Return the workspace: ``$KINO_WORKSPACE``, by default ``./kino-workspace``.

    Raises:
        ConfigError: the path can't be found out, or is no text.
    """
    named = os.environ.get("KINO_WORKSPACE") or "kino-workspace"
    hint = "set KINO_WORKSPACE to another folder"
    try:
        root = Path(named).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, a current folder that is gone
        raise ConfigError(f"the workspace {named!r} can't be found: {error}", hint=hint) from None
    if not is_text(root):
        raise ConfigError(f"the workspace {named!r} has no UTF-8 path", hint=hint)
    return Workspace(root)


def tracking_uri() -> str:
    """Return MLflow's URI: ``$MLFLOW_TRACKING_URI``, by default the workspace's database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or workspace().tracking_uri


def environment_with_defaults(defaults: dict[str, str]) -> dict[str, str]:
    """Return the whole environment for a child, with values for what it does not say."""
    return {**defaults, **os.environ}


def take_defaults(values: dict[str, str]) -> None:
    """Let this process have values for what its environment does not say."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def object_store_host() -> str | None:
    """Return the host in ``$KINO_S3_ENDPOINT``."""
    return urlsplit(os.environ.get("KINO_S3_ENDPOINT", "")).hostname


@dataclass(frozen=True, slots=True)
class S3Variables:
    """What the environment says about S3, unchecked; empty where it says nothing."""

    endpoint: str
    region: str
    addressing: str
    ca_file: str
    credentials_path: str
    retry_seconds: str


def s3_variables() -> S3Variables:
    """Return ``$KINO_S3_ENDPOINT`` and its siblings, without credentials."""
    return S3Variables(
        endpoint=os.environ.get("KINO_S3_ENDPOINT", ""),
        region=os.environ.get("KINO_S3_REGION", ""),
        addressing=os.environ.get("KINO_S3_ADDRESSING", ""),
        ca_file=os.environ.get("KINO_S3_CA_FILE", ""),
        credentials_path=os.environ.get("KINO_S3_CREDENTIALS_PATH", ""),
        retry_seconds=os.environ.get("KINO_S3_RETRY_SECONDS", ""),
    )


def aws_credentials() -> tuple[str, str, str]:
    """Return AWS's access key, secret key and session token; empty where there is none."""
    return (
        os.environ.get("AWS_ACCESS_KEY_ID", ""),
        os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        os.environ.get("AWS_SESSION_TOKEN", ""),
    )


def limit_store_retries(seconds: int) -> None:
    """Let this process give up on an object store sooner, unless the environment says how soon."""
    os.environ.setdefault("KINO_S3_RETRY_SECONDS", str(seconds))


def video_cache_bytes() -> int | None:
    """Return how much of videos in buckets to keep on this disk: ``$KINO_VIDEO_CACHE_GIB``.

    None where nothing was said.

    Raises:
        ConfigError: it is no number from 0 on.
    """
    text = os.environ.get("KINO_VIDEO_CACHE_GIB", "")
    try:
        gib = float(text or 0)
    except ValueError:
        gib = -1.0
    if not 0 <= gib < float("inf"):
        raise ConfigError(
            f"KINO_VIDEO_CACHE_GIB={text!r} is no number of GiB", hint="use e.g. 16; 0 keeps none"
        )
    return int(gib * GIB) if text else None


def threads_per_process() -> int | None:
    """Return ``$OMP_NUM_THREADS`` where it is a number."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() else None


def given_store_uri() -> str | None:
    """Return ``$KINO_STORE_URI``, which pods have; None where nothing was said."""
    return os.environ.get("KINO_STORE_URI") or None


def run_start() -> int | None:
    """Return ``$KINO_RUN_START``: which start of its run this process works for, if it was told."""
    text = os.environ.get("KINO_RUN_START", "")
    return int(text) if text.isdecimal() else None


def trains_in_jobs() -> bool:
    """Tell whether training steps run in jobs of the cluster: ``$KINO_LAUNCHER`` is trainjob.

    By default, and where it is local, they run on this machine.

    Raises:
        ConfigError: it is neither.
    """
    named = os.environ.get("KINO_LAUNCHER") or "local"
    if named not in ("local", "trainjob"):
        raise ConfigError(f"KINO_LAUNCHER={named!r} must be local or trainjob")
    return named == "trainjob"


def metrics_endpoint() -> tuple[str, int]:
    """Return where metrics are served: ``$KINO_METRICS_ADDRESS`` and ``$KINO_METRICS_PORT``.

    By default 127.0.0.1 and 0, which takes a free port.

    Raises:
        ConfigError: the port is no number up to 65535.
    """
    text = os.environ.get("KINO_METRICS_PORT") or "0"
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise ConfigError(
            f"KINO_METRICS_PORT={text!r} must be a whole number up to {_LAST_PORT}",
            hint="9464 is what the chart's monitoring expects; 0 takes a free port",
        )
    return os.environ.get("KINO_METRICS_ADDRESS") or "127.0.0.1", int(text)


def rank_variables() -> dict[str, str]:
    """Return what Kubeflow Trainer (``PET_*``) or our launcher says of this process's rank."""
    own = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    return {k: v for k, v in os.environ.items() if k in own or k.startswith("PET_")}


def set_rank_variables(variables: dict[str, str]) -> None:
    """Give this process its rank the way that torch and libraries on it read it."""
    os.environ.update(variables)


def debug_enabled() -> bool:
    """Tell whether errors show their traceback: ``$KINO_DEBUG`` is 1."""
    return os.environ.get("KINO_DEBUG") == "1"


def cache_sources() -> bool | None:
    """Return whether sources are part of what a step is: ``$KINO_CACHE_SOURCES`` is 1 or 0.

    None where nothing was said: those in a checkout are, installed ones are not.
    """
    return {"1": True, "0": False}.get(os.environ.get("KINO_CACHE_SOURCES", ""))


def profiles_path() -> Path | None:
    """Return the file of cluster profiles: ``$KINO_PROFILES``, else below ``~/.config``.

    None where neither is said and this user has no home.
    """
    named = os.environ.get("KINO_PROFILES")
    if named:
        return Path(named)
    home = _home()
    return home and home / ".config" / "kinetoscope" / "profiles.yaml"


def kubeconfig() -> str | None:
    """Return ``$KUBECONFIG`` (one path or several), or ``~/.kube/config`` where it exists."""
    named = os.environ.get("KUBECONFIG")
    home = _home()
    if named or home is None:
        return named or None
    usual = home / ".kube" / "config"
    return str(usual) if usual.is_file() else None


def lend_home() -> None:
    """Give a user without a home a folder of the workspace: libraries ask for one when imported."""
    if _home() is None:
        os.environ["HOME"] = str(workspace().scratch_path)


def pod_uid() -> str:
    """Return ``$KINO_POD_UID``, which Kubernetes gives to each pod anew; empty outside of one."""
    return os.environ.get("KINO_POD_UID", "")


def kubeflow_pod() -> str:
    """Return ``$KFP_POD_NAME``, which Kubeflow Pipelines gives its pods; empty outside of one."""
    return os.environ.get("KFP_POD_NAME", "")


def stop_file() -> Path | None:
    """Return ``$KINO_STOP_FILE``: a pod's preStop hook makes it; None where there is no hook."""
    named = os.environ.get("KINO_STOP_FILE")
    return Path(named) if named else None


def launch_id() -> str:
    """Return ``$KINO_LAUNCH_ID``, which the ranks of a launch share: the greater, the later."""
    return os.environ.get("KINO_LAUNCH_ID", "")


def release() -> str:
    """Return ``$KINO_RELEASE``: the release that a pod is of; ``kinetoscope`` by default."""
    return os.environ.get("KINO_RELEASE") or "kinetoscope"


def in_cluster() -> bool:
    """Tell whether this process runs in a pod that Kubernetes has told its API's address."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _home() -> Path | None:
    """Return this user's home; None for one of whom nothing is known, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return None
