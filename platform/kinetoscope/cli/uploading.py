"""Bring a user's folder of videos into an object store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinetoscope.data.sources.upload import Uploaded

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def upload_folder(
    videos: str,
    to: str | None,
    name: str | None,
    progress: tuple[Callable[[int, int], None], Callable[[int, int], None]],
) -> Uploaded:
    """Upload a folder.

    Args:
        videos: path of the folder.
        to: URI or path of where sets are kept; by default ``videos`` in the workspace's store.
        name: of the set; by default made of the folder's.
        progress: told of files whose content is known, and of bytes that are sent.

    Raises:
        UserError: the folder has no video, or a name or URI is wrong.
    """
    from kinetoscope.core.errors import ConfigError
    from kinetoscope.core.settings import workspace
    from kinetoscope.data.sources.directory import DirectoryPlace
    from kinetoscope.data.sources.listing import require_videos
    from kinetoscope.data.sources.manifest import MANIFESTS
    from kinetoscope.data.sources.place import (
        open_place,
        open_root,
        place_name,
        with_versions,
    )
    from kinetoscope.data.sources.upload import upload_videos
    from kinetoscope.storage.keys import join_uri
    from kinetoscope.storage.open import open_store

    place = open_place(place_name(videos))
    if not isinstance(place, DirectoryPlace):
        raise ConfigError(
            f"{place.uri} is no folder on this machine",
            hint="kino run --videos reads it where it is",
        )
    listing = require_videos(place.list(), place.uri)
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", place.path.name).strip("-._")[:100] or "videos"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} can't name a set of videos",
            hint="use up to 100 letters, digits, dots, hyphens and underscores",
        )
    store = (
        open_store(join_uri(workspace().store_uri, "videos"))
        if to is None
        else open_root(place_name(to))
    )
    store.list(MANIFESTS)  # whether it can be reached is told before videos are read
    listing = with_versions(place, listing, workspace().digests_path, progress[0])
    return upload_videos(place, listing, store, name, progress[1])
