"""The connection to one cluster: every call with time-outs, every error in our own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from kinetoscope import __version__
from kinetoscope.core import settings
from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.api_errors import describe_call, from_answer, unreachable
from kinetoscope.kube.names import fullname_of

if TYPE_CHECKING:
    from pathlib import Path

    from kinetoscope.kube.profiles import Profile

CONNECT_SECONDS = 5
READ_SECONDS = 30


class _ApiClient(client.ApiClient):  # type: ignore[misc]  # kubernetes has no types
    """The generated client with time-outs, our errors, and patches that custom resources take."""

    def request(self, method: str, url: str, **kwargs: Any) -> Any:
        """Send one request.

        Raises:
            ApiError: the subclass of `kinetoscope.kube.api_errors` that fits.
        """
        kwargs["_request_timeout"] = kwargs.get("_request_timeout") or (
            CONNECT_SECONDS,
            READ_SECONDS,
        )
        try:
            return super().request(method, url, **kwargs)
        except ApiException as error:
            if error.status:
                raise from_answer(describe_call(method, url), error) from None
            raise unreachable(describe_call(method, url), self._host(), error) from None
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(describe_call(method, url), self._host(), error) from None

    def select_header_content_type(self, content_types: list[str] | None, *_: Any) -> str:
        """Send every patch as a merge patch.

        Custom resources refuse a strategic merge, into which some releases turn a JSON patch:
        https://github.com/kubernetes-client/python/issues/866.
        """
        if "application/merge-patch+json" in (content_types or ()):
            return "application/merge-patch+json"
        chosen: str = super().select_header_content_type(content_types)
        return chosen

    def _host(self) -> str:
        return str(self.configuration.host)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connected cluster; every call through it raises `ApiError`s only.

    Args:
        profile: where it came from.
        api: for the generated API classes that are not here (``AuthorizationV1Api(cluster.api)``).
        core: pods, events, config maps, nodes.
        custom: TrainJobs, runtimes, JobSets and other custom resources.
    """

    profile: Profile
    api: client.ApiClient
    core: client.CoreV1Api
    custom: client.CustomObjectsApi

    @property
    def namespace(self) -> str:
        """Where the runs are."""
        return self.profile.namespace

    @property
    def release(self) -> str:
        """Name of the chart's release."""
        return self.profile.release

    @property
    def fullname(self) -> str:
        """What the chart's objects are named after."""
        return fullname_of(self.release)

    def version(self) -> str:
        """Return the version of Kubernetes, such as ``v1.34.4``."""
        return str(client.VersionApi(self.api).get_code().git_version)


def connect(profile: Profile) -> Cluster:
    """Prepare a connection; nothing is sent yet.

    Raises:
        ConfigError: when the kubeconfig, the context, the token or the CA can't be read.
    """
    settings_ = client.Configuration()
    # One more try where nothing was sent yet or nothing can happen twice; callers that wait back
    # off themselves.
    settings_.retries = urllib3.Retry(total=1, redirect=0, status=0, backoff_factor=0.2)
    try:
        _configure(settings_, profile)
    except (ConfigException, yaml.YAMLError, OSError, ValueError) as error:
        raise ConfigError(
            f"profile {profile.name!r} ({profile.way}): {error}",
            hint="kino config profiles add NAME --help says what a profile needs",
        ) from None
    api = _ApiClient(settings_)
    api.user_agent = f"kinetoscope/{__version__}"
    return Cluster(profile, api, client.CoreV1Api(api), client.CustomObjectsApi(api))


def _configure(target: client.Configuration, profile: Profile) -> None:
    if profile.in_cluster:
        config.load_incluster_config(client_configuration=target)
    elif profile.endpoint:
        assert profile.token_file is not None
        _configure_address(target, profile.endpoint, profile.token_file, profile.ca_file)
    else:
        path = profile.kubeconfig or settings.kubeconfig()
        if path is None:
            raise ConfigException("there is neither $KUBECONFIG nor ~/.kube/config")
        config.load_kube_config(str(path), profile.context, client_configuration=target)


def _configure_address(
    target: client.Configuration, endpoint: str, token_file: Path, ca_file: Path | None
) -> None:
    def read_token(configuration: client.Configuration) -> None:
        # Read for every call: tokens are rotated under us.
        try:
            token = token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"token_file {token_file}: {error.strerror}") from None
        if not token:
            raise ConfigError(f"token_file {token_file} is empty")
        configuration.api_key["authorization"] = f"Bearer {token}"

    if ca_file is not None and not ca_file.is_file():
        raise FileNotFoundError(f"{ca_file}: no such file (ca_file)")
    target.host = endpoint
    target.ssl_ca_cert = str(ca_file) if ca_file else None
    read_token(target)
    target.refresh_api_key_hook = read_token
