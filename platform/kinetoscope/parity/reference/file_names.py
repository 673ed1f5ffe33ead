"""The paths that Open-Sora 1.2 gives its samples."""

from __future__ import annotations

import posixpath

from kinetoscope.data.text.file_names import clip_name


def reference_path_name(
    folder: str,
    index: int,
    *,
    name: str | None = None,
    prompt: str | None = None,
    copy: int | None = None,
) -> str:
    """Return the path of a sample without suffix: with ``prompt``, its raw text is the name.

    Such a path may lie outside the folder or be none at all (`clip_name` is safe).
    """
    stem = clip_name(index, name=name) if prompt is None else f"{name or ''}{prompt}"
    path = posixpath.join(folder, stem)
    return path if copy is None else f"{path}-{copy}"
