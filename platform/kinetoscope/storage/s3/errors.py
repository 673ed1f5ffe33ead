"""What went wrong between us and an S3 server: may it pass, and how is it told?"""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from kinetoscope.core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PASSING_CODES = frozenset(
    {
        "BadDigest",
        "Busy",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
    }
)
# Not 501 (not implemented) and 507 (full): those stay.
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})

_CHECK_KEYS = (
    "check the access key and the secret key: the files in KINO_S3_CREDENTIALS_PATH, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_CHECK_REGION = "set KINO_S3_REGION to the region of the bucket"
_HINTS: Mapping[str, str] = {
    "AccessDenied": "these credentials lack a permission; docs/storage.md lists what is needed",
    "AuthorizationHeaderMalformed": _CHECK_REGION,
    "ExpiredToken": "renew the session token and the keys that came with it",
    "InvalidAccessKeyId": _CHECK_KEYS,
    "InvalidToken": _CHECK_KEYS,
    "NoSuchBucket": "create the bucket, or correct the URI of the store",
    "PermanentRedirect": _CHECK_REGION,
    "RequestTimeTooSkewed": "set the clock of this machine: it differs from the server's",
    "SignatureDoesNotMatch": _CHECK_KEYS,
    "XMinioStorageFull": "the server has no space left",
}


class GarbledError(Exception):
    """What arrived is not what was sent: too short, or with another digest."""


class RequestError(StorageError):
    """A request that the server refused, or that never got through.

    Attributes:
        code: S3's name of the error; empty when no answer came.
        status: of HTTP; 0 when no answer came.
    """

    def __init__(
        self, message: str, *, code: str = "", status: int = 0, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status


TELLING_ERRORS = (
    MinioException,
    HTTPError,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    ET.ParseError,
    UnicodeDecodeError,
    GarbledError,
)
"""What a request may raise; other errors (a full disk, a wrong key) tell themselves."""


def is_transient(error: Exception) -> bool:
    """Tell whether the same request may do better a little later."""
    if isinstance(error, S3Error | ServerError | InvalidResponseError):
        status = status_of(error)
        return status in _PASSING_STATUSES or code_of(error) in _PASSING_CODES
    if isinstance(error, SSLError | ssl.SSLError):
        return not _is_lasting_tls_error(error)
    # What urllib3 raises is a connection that broke or failed, save for hosts that no URL has.
    lost = isinstance(error, ConnectionError | TimeoutError | HTTPError)
    garbled = isinstance(error, ET.ParseError | UnicodeDecodeError | GarbledError)
    return (lost or garbled) and not isinstance(error, LocationValueError)


def code_of(error: Exception) -> str:
    """Return S3's name of the error, e.g. ``NoSuchKey``, or an empty string."""
    return (error.code or "") if isinstance(error, S3Error) else ""


def status_of(error: Exception) -> int:
    """Return the HTTP status of an answer, 0 where there was none."""
    if isinstance(error, S3Error):
        return int(error.response.status)
    if isinstance(error, ServerError):
        return error.status_code
    # The class has no property for it.
    return int(error._code) if isinstance(error, InvalidResponseError) else 0


def explain(error: Exception, *, doing: str, where: str, retried_seconds: float) -> RequestError:
    """Return an error that says what was tried, what came back and what to do.

    Args:
        error: one of ``TELLING_ERRORS``.
        doing: the operation, e.g. ``read``.
        where: object or bucket, and endpoint.
        retried_seconds: for how long errors that may pass were tried again.
    """
    code, status = code_of(error), status_of(error)
    retried = retried_seconds and is_transient(error)
    again = f" (tried again for {retried_seconds:.0f} s)" if retried else ""
    return RequestError(
        f"can't {doing} {where}: {_answer(error)}{again}",
        code=code,
        status=status,
        hint=_hint(error, code, status),
    )


def _answer(error: Exception) -> str:
    if isinstance(error, S3Error):
        return f"{error.code}: {error.message}" if error.message else f"{error.code}"
    status = status_of(error)
    if status:
        # The body may be a proxy's page that repeats the request: not shown.
        return f"HTTP status {status}"
    return f"{type(error).__name__}: {error}"


def _hint(error: Exception, code: str, status: int) -> str | None:
    if code in _HINTS:
        return _HINTS[code]
    if status == HTTPStatus.FORBIDDEN:
        return _HINTS["AccessDenied"]
    if status == HTTPStatus.INSUFFICIENT_STORAGE:
        return _HINTS["XMinioStorageFull"]
    if status == HTTPStatus.BAD_REQUEST and isinstance(error, InvalidResponseError):
        return "does the server speak https where KINO_S3_ENDPOINT says http?"
    if isinstance(error, SSLError | ssl.SSLError):
        return (
            "KINO_S3_CA_FILE must name the CA that signed the server's certificate, which must be "
            "made out to the host in KINO_S3_ENDPOINT (virtual addressing: *.HOST as well)"
        )
    if is_transient(error):
        return "is KINO_S3_ENDPOINT right, and does the server run? KINO_S3_RETRY_SECONDS waits"
    return None


def _is_lasting_tls_error(error: Exception) -> bool:
    """Tell certificates that do not fit, and http on the other side, from a broken connection."""
    inner = error.args[0] if isinstance(error, SSLError) and error.args else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return True
    reason = getattr(inner, "reason", None) or ""
    return reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "TLSV1_ALERT_UNKNOWN_CA")
