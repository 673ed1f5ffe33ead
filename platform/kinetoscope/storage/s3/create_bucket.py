"""Make the bucket of ``$KINO_STORE_URI``: ``python -m kinetoscope.storage.s3.create_bucket``.

For the development store of the chart; an existing bucket is left as it is.
"""

from __future__ import annotations

import sys

from minio.error import S3Error

from kinetoscope.core.errors import ConfigError, KinetoscopeError
from kinetoscope.core.settings import given_store_uri
from kinetoscope.core.text import printable
from kinetoscope.storage.s3.connection import connect
from kinetoscope.storage.s3.settings import S3Location, S3Settings

_EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def create_bucket(uri: str) -> bool:
    """Make the bucket; tells whether it was missing.

    Args:
        uri: ``s3://BUCKET[/PREFIX]``.

    Raises:
        KinetoscopeError: the server can't be reached, or refuses.
    """
    connection = connect(S3Location.of(uri).bucket, S3Settings.from_environment())
    region = connection.settings.region

    def make() -> bool:
        try:
            connection.client.make_bucket(connection.bucket, location=region)
        except S3Error as error:
            if error.code not in _EXISTS:
                raise
            return False
        return True

    return connection.call(make, doing="make the bucket")


def main() -> int:
    """Make the bucket that the environment names; returns the exit code."""
    uri = given_store_uri() or ""
    try:
        if not uri.startswith("s3://"):
            raise ConfigError("KINO_STORE_URI names no bucket", hint="write s3://BUCKET[/PREFIX]")
        fresh = create_bucket(uri)
    except KinetoscopeError as error:
        hint = f"\nhint: {printable(error.hint)}" if error.hint else ""
        sys.stderr.write(f"error: {printable(error.message)}{hint}\n")
        return int(error.exit_code)
    sys.stdout.write("made the bucket\n" if fresh else "the bucket is there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
