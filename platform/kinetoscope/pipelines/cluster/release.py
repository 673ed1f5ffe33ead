"""What a pipeline's pods take from a release of the chart, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import ValidationError

from kinetoscope.core.config_model import Config
from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.config import ByteQuantity, Image, Name
from kinetoscope.kube.names import fullname_of

ENVIRONMENT_KEYS = (
    "KINO_STORE_URI",
    "KINO_S3_ENDPOINT",
    "KINO_S3_REGION",
    "KINO_S3_ADDRESSING",
    "KINO_S3_CREDENTIALS_PATH",
    "KINO_S3_CA_FILE",
    "KINO_METRICS_ADDRESS",
    "KINO_METRICS_PORT",
    "KINO_LOG_FORMAT",
    "KINO_WORKSPACE",
    "KINO_VIDEO_CACHE_GIB",
    "MLFLOW_TRACKING_URI",
    "HOME",
)
"""Keys of the chart's ConfigMap that become environment variables of a step's pod."""
CREDENTIALS_PATH = "/var/run/secrets/kinetoscope/object-store"
FILE_KEYS = ("accesskey", "secretkey")
"""Names of keys that are read as files: Kubeflow can't rename what it mounts."""
CA_PATH = "/etc/kinetoscope/object-store-ca"
WORKSPACE_PATH = "/workspace"
_IMAGES = ("KINO_TRAINER_IMAGE", "KINO_CONTROL_PLANE_IMAGE")


class Release(Config):
    """A release of the chart, as its pods see it.

    Args:
        name: that its objects are named after.
        trainer_image: with PyTorch, of the steps that prepare, encode, evaluate and register.
        control_plane_image: of the tasks that begin and end a run, and of launchers.
    """

    name: Name = "kinetoscope"
    trainer_image: Image = "kinetoscope/trainer"
    control_plane_image: Image = "kinetoscope/control-plane"
    store_secret: Name = "kinetoscope-object-store"  # noqa: S105 - a name of one
    """Secret with the keys of the object store."""
    store_keys: tuple[str, str] = FILE_KEYS
    """Names of the access key and of the secret key in it."""
    ca_config_map: Name | None = None
    """ConfigMap with the certificates of a private CA, mounted at `CA_PATH`."""
    mlflow_secret: Name | None = None
    """Secret with MLflow's login."""
    mlflow_keys: tuple[str, ...] = ("username", "password")
    """Of it: ``username`` and ``password``, or ``token``."""
    workspace_size: ByteQuantity | None = None
    """Of /workspace, where a run's config does not say it."""
    shm_size: ByteQuantity | None = None
    """Of /dev/shm; None: the container runtime's 64 MiB."""
    pull_secrets: tuple[Name, ...] = ()

    @property
    def environment(self) -> str:
        """Name of the ConfigMap with what the release tells its pods."""
        return f"{self.name}-environment"

    @classmethod
    def named(cls, release: str) -> Self:
        """Return what a release of that name has where its values do not say otherwise.

        Raises:
            ConfigError: no release can have the name.
        """
        fullname = fullname_of(release)
        try:
            return cls(name=fullname, store_secret=f"{fullname}-object-store")
        except ValidationError:
            raise ConfigError(
                f"{release!r} can't name a release", hint="helm list shows those that there are"
            ) from None

    def with_images(self, given: Mapping[str, str | None]) -> Self:
        """Return this with images replaced, where some are given.

        Raises:
            ConfigError: one is no image reference.
        """
        try:
            return self.model_validate(
                {**self.model_dump(), **{k: image for k, image in given.items() if image}}
            )
        except ValidationError:
            told = ", ".join(repr(image) for image in given.values() if image)
            raise ConfigError(
                f"{told}: not all are images", hint="e.g. registry.example.com/trainer:0.1.0"
            ) from None

    @classmethod
    def of(cls, name: str, told: Mapping[str, str]) -> Self:
        """Return what the release's ConfigMap tells.

        Raises:
            ConfigError: it is of an older chart, which does not tell all.
        """
        missing = [key for key in (*_IMAGES, "KINO_STORE_SECRET") if not told.get(key)]
        if missing:
            raise ConfigError(
                f"ConfigMap {name}-environment has no {', '.join(missing)}",
                hint="helm upgrade the release: its chart is older than this kino",
            )
        return cls(
            name=name,
            trainer_image=told["KINO_TRAINER_IMAGE"],
            control_plane_image=told["KINO_CONTROL_PLANE_IMAGE"],
            store_secret=told["KINO_STORE_SECRET"],
            ca_config_map=told.get("KINO_STORE_CA_CONFIG_MAP") or None,
            store_keys=_listed(told, "KINO_STORE_SECRET_KEYS") or FILE_KEYS,
            mlflow_secret=told.get("KINO_MLFLOW_SECRET") or None,
            mlflow_keys=_listed(told, "KINO_MLFLOW_SECRET_KEYS"),
            workspace_size=told.get("KINO_WORKSPACE_SIZE") or None,
            shm_size=told.get("KINO_SHM_SIZE") or None,
            pull_secrets=_listed(told, "KINO_PULL_SECRETS"),
        )


def _listed(told: Mapping[str, str], key: str) -> tuple[str, ...]:
    return tuple(filter(None, told.get(key, "").split(",")))
