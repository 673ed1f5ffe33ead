"""Profiles: how to reach each cluster, in one file of the user's.

    current: lab
    profiles:
    - name: lab                      # a kubeconfig (this one, or $KUBECONFIG's) and a context of it
      kubeconfig: /home/ada/.kube/config
      context: lab-admin
    - name: here                     # inside a pod: its ServiceAccount
      in_cluster: true
    - name: remote                   # an address and a file with a bearer token
      endpoint: https://k8s.example.com:6443
      token_file: /run/secrets/kinetoscope/token
      ca_file: /etc/ssl/k8s-ca.crt

Every profile may name the ``namespace`` of its runs (kubeflow) and the chart's ``release``
(kinetoscope). No key holds a secret: tokens are named by their file, unknown keys are refused.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from kinetoscope.core import settings
from kinetoscope.core.config_model import Config
from kinetoscope.core.errors import ConfigError, NotFoundError
from kinetoscope.core.yaml_text.nodes import plain
from kinetoscope.core.yaml_text.read import read_yaml

_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_DEFAULT_NAMESPACE = "kubeflow"


def _absolute(path: Path) -> Path:
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError("names a home that is not known; give an absolute path") from None
    if not path.is_absolute():
        raise ValueError("is relative; give an absolute path, or one that starts with ~")
    return path


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc:  # never echoed: it may hold a password
        raise ValueError("holds a user name or a password; put a token into token_file")
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not secure or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be https://HOST[:PORT] (http only on this machine itself)")
    return url.rstrip("/")


# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Profile(Config):
    """One cluster, and where Kinetoscope lives on it.

    Give ``kubeconfig`` and/or ``context``, or ``in_cluster``, or ``endpoint`` with ``token_file``.
    With none of them it is the kubeconfig that kubectl would use.
    """

    name: Label
    namespace: Label = _DEFAULT_NAMESPACE
    """Where the runs are."""
    release: Label = "kinetoscope"
    """Name of the chart's release."""
    kubeconfig: AbsolutePath | None = None
    context: str | None = None
    in_cluster: bool = False
    endpoint: Endpoint | None = None
    token_file: AbsolutePath | None = None
    ca_file: AbsolutePath | None = None

    @property
    def way(self) -> str:
        """How it connects, in words."""
        if self.in_cluster:
            return "in-cluster"
        if self.endpoint:
            return f"{self.endpoint} with {self.token_file}"
        path = str(self.kubeconfig or settings.kubeconfig() or "no kubeconfig")
        return f"{path} ({self.context})" if self.context else path

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        by_file = self.kubeconfig is not None or self.context is not None
        by_address = self.endpoint is not None
        if by_file + by_address + self.in_cluster > 1:
            raise ValueError("give one of kubeconfig/context, in_cluster, endpoint")
        if by_address and self.token_file is None:
            raise ValueError("endpoint needs token_file, a file with a bearer token")
        if not by_address and (self.token_file or self.ca_file):
            raise ValueError("token_file and ca_file belong to endpoint")
        return self


class Profiles(Config):
    """The content of the file of profiles."""

    current: Label | None = None
    profiles: tuple[Profile, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [profile.name for profile in self.profiles]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two profiles are named {', '.join(doubled)}")
        if self.current is not None and self.current not in names:
            raise ValueError(f"current names {self.current!r}, which is not among the profiles")
        return self

    def get(self, name: str) -> Profile:
        """Return the profile of that name.

        Raises:
            NotFoundError: naming those that there are.
        """
        for profile in self.profiles:
            if profile.name == name:
                return profile
        known = ", ".join(profile.name for profile in self.profiles) or "none"
        place = settings.profiles_path() or "any file"
        raise NotFoundError(
            f"there is no profile {name!r} in {place}; it has: {known}",
            hint="kino config profiles add NAME --help says how to add one",
        )

    def with_profile(self, profile: Profile) -> Profiles:
        """Return a copy with one more profile; the first one becomes the current one.

        Raises:
            ConfigError: when the name is taken.
        """
        if any(known.name == profile.name for known in self.profiles):
            raise ConfigError(
                f"there is a profile {profile.name!r} already",
                hint=f"kino config profiles rm {profile.name}, or take another name",
            )
        current = self.current if self.profiles else profile.name
        return Profiles(current=current, profiles=(*self.profiles, profile))

    def without(self, name: str) -> Profiles:
        """Return a copy without that profile; afterwards none is current if it was."""
        gone = self.get(name)
        left = tuple(profile for profile in self.profiles if profile is not gone)
        return Profiles(current=None if self.current == name else self.current, profiles=left)

    def with_current(self, name: str) -> Profiles:
        """Return a copy whose current profile is the named one."""
        return Profiles(current=self.get(name).name, profiles=self.profiles)


def load_profiles(path: Path | None = None) -> Profiles:
    """Read the file of profiles; without a file there are none.

    Args:
        path: by default `settings.profiles_path`.

    Raises:
        ConfigError: when it is no valid file of profiles, or others may write to it (who can
            redirect us to another cluster gets our credentials). Values are never repeated.
    """
    path = path or settings.profiles_path()
    if path is None:
        return Profiles()
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if mode & _OTHERS_MAY_WRITE:
        raise ConfigError(f"{path} may be written by other users", hint=f"chmod 600 {path}")
    value = plain(read_yaml(path, secret=True))
    try:
        return Profiles.model_validate({} if value is None else value)
    except ValidationError as error:
        hint = "kino config profiles --help; docs/cli.md shows the file"
        raise ConfigError(f"{path}: {explain(error)}", hint=hint) from None


def save_profiles(profiles: Profiles, path: Path | None = None) -> Path:
    """Write the file of profiles whole, for its owner only (0600), and return its path.

    Raises:
        ConfigError: this user has no home, and no other place was named.
    """
    path = path or settings.profiles_path()
    if path is None:
        raise ConfigError(
            "this user has no home, where cluster profiles are kept",
            hint="set HOME, or KINO_PROFILES to a file",
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    value = profiles.model_dump(mode="json", exclude_defaults=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:  # mkstemp makes it 0600
            yaml.safe_dump(value, file, sort_keys=False)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def choose_profile(
    name: str | None = None, *, namespace: str | None = None, release: str | None = None
) -> Profile:
    """Return the named profile, else the current one, else what the environment offers.

    Args:
        name: a profile of the file.
        namespace: replaces the profile's own.
        release: replaces the profile's own.

    Raises:
        NotFoundError: when there is no such profile.
        ConfigError: when the file, the namespace or the release is not valid.
    """
    profiles = load_profiles()
    chosen = name or profiles.current
    profile = profiles.get(chosen) if chosen else environment_profile()
    given = {"namespace": namespace, "release": release}
    replaced = {key: value for key, value in given.items() if value is not None}
    return make_profile(**{**profile.model_dump(), **replaced}) if replaced else profile


def environment_profile() -> Profile:
    """Return the profile used without a file: the kubeconfig, or the pod's ServiceAccount."""
    if settings.kubeconfig() or not settings.in_cluster():
        return Profile(name="default")
    try:
        namespace = _SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
    except OSError:
        namespace = _DEFAULT_NAMESPACE
    release = settings.release()
    return make_profile(name="default", in_cluster=True, namespace=namespace, release=release)


def make_profile(**values: object) -> Profile:
    """Return a profile of values that a user gave.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"no valid profile: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Return what is wrong where, without the values: someone may have put a secret there."""
    lines = []
    for problem in error.errors(include_input=False, include_context=False, include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        text = re.sub(r"^Value error, ", "", problem["msg"])
        if problem["type"] == "extra_forbidden":
            text = f"unknown key; allowed: {', '.join(Profile.model_fields)}"
        lines.append(f"{where}: {text}" if where else text)
    return "; ".join(lines)
