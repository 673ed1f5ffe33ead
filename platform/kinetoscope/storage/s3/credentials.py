"""Credentials of an S3 store: from files or the environment, and nowhere else.

They are looked up for every request, so that rotated ones are used at once, and appear in no
message, representation or log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.settings import aws_credentials

if TYPE_CHECKING:
    from pathlib import Path

# Each file's names: ours, and that of Kubeflow's own Secrets, whose volume can rename no key.
_SPELLINGS = (
    ("access_key", "accesskey"),
    ("secret_key", "secretkey"),
    ("session_token", "sessiontoken"),
)
_FILES = tuple(name for names in _SPELLINGS for name in names)
_HINT = (
    "set KINO_S3_CREDENTIALS_PATH to a folder with the files access_key, secret_key and, where "
    "there is one, session_token (or accesskey, secretkey, sessiontoken); or set "
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)"
)

# Of each file: when it was written, its size, its inode.
_Stamp = tuple[tuple[int, int, int] | None, ...]


class SecretCredentials(Credentials):
    """Credentials that do not show themselves in tracebacks."""

    def __repr__(self) -> str:
        return "SecretCredentials(...)"


class CredentialsSource(Provider):
    """Gives the credentials that hold now.

    Args:
        path: folder of the files, read again whenever they change; None for the environment.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: _Stamp | None = None
        self._read: SecretCredentials | None = None

    def retrieve(self) -> Credentials:
        """Return the credentials; raises ``ConfigError`` where they are missing or malformed."""
        if self._path is None:
            return _checked(*aws_credentials(), where="the environment")
        stamp = self._look(self._path)
        if self._read is None or stamp != self._stamp:
            self._stamp, self._read = self._read_files(self._path, stamp)
        return self._read

    def _read_files(self, path: Path, stamp: _Stamp) -> tuple[_Stamp, SecretCredentials]:
        while True:
            texts = {name: _text(path / name) for name in _FILES}
            now = self._look(path)
            if now == stamp:
                found = [_agreed(names, texts, path) for names in _SPELLINGS]
                return stamp, _checked(*found, where=str(path))
            # Replaced between the first file and the last: a pair that does not match.
            stamp = now

    def _look(self, path: Path) -> _Stamp:
        return tuple(_stamp(path / name) for name in _FILES)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"the S3 credentials in {path} can't be read: {error.strerror}", hint=_HINT
        ) from None


def _agreed(names: tuple[str, str], texts: dict[str, str | None], path: Path) -> str:
    """Return what the file holds that has either name; empty where there is none."""
    told = {text for name in names if (text := texts[name]) is not None}
    if len(told) > 1:
        raise ConfigError(
            f"the S3 credentials in {path} are not clear: {' and '.join(names)} differ",
            hint=f"leave one of these two files there, or the same in both; {_HINT}",
        )
    return told.pop() if told else ""


def _checked(
    access_key: str, secret_key: str, session_token: str, *, where: str
) -> SecretCredentials:
    if not access_key or not secret_key:
        missing = " and ".join(
            name
            for name, text in (("access key", access_key), ("secret key", secret_key))
            if not text
        )
        raise ConfigError(f"there are no S3 credentials: no {missing} in {where}", hint=_HINT)
    for name, text in (
        ("access key", access_key),
        ("secret key", secret_key),
        ("session token", session_token),
    ):
        # They become parts of headers; what HTTP refuses there, it would repeat in its message.
        if not all("!" <= letter <= "~" for letter in text):
            raise ConfigError(
                f"the S3 {name} in {where} holds spaces or characters that no key has", hint=_HINT
            )
    return SecretCredentials(access_key, secret_key, session_token or None)
