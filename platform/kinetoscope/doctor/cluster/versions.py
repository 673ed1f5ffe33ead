"""Version numbers: those of the cluster's parts against those that Kinetoscope was tried with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kinetoscope.doctor.cluster.context import Dict

_NUMBER = re.compile(r"(?<![\w.])v?(\d+)\.(\d+)(?:\.(\d+))?")

Version = tuple[int, int]


class Supported(NamedTuple):
    """What is known of a part's versions.

    Attributes:
        least: the oldest that has what we use.
        below: the first one that was not tried; None: none is known to be too new.
        tested: for the reader.
    """

    least: Version
    below: Version | None
    tested: str

    def __str__(self) -> str:
        upper = f", < {self.below[0]}.{self.below[1]}" if self.below else ""
        return f">= {self.least[0]}.{self.least[1]}{upper} (tested: {self.tested})"


KUBERNETES = Supported((1, 31), None, "1.34")
TRAINER = Supported((2, 3), (2, 4), "2.3.0")
JOBSET = Supported((0, 10), None, "0.12.0")
PIPELINES = Supported((2, 16), None, "2.17.0")


def parse(text: str) -> Version | None:
    """Return the first two numbers of a version such as ``v1.34.4`` or ``2.3.0-rc.1``, or None."""
    match = _NUMBER.search(text)
    return (int(match[1]), int(match[2])) if match else None


def judge(found: Version, supported: Supported) -> str:
    """Return ``old``, ``new`` or ``fits``."""
    if found < supported.least:
        return "old"
    return "new" if supported.below and found >= supported.below else "fits"


def image_versions(deployments: Iterable[Dict]) -> list[tuple[str, str]]:
    """Return (namespace/name, tag) of every container's image; a digest is no tag."""
    found = []
    for deployment in deployments:
        meta = deployment["metadata"]
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            image = container["image"].partition("@")[0].rpartition("/")[2]
            found.append((f"{meta['namespace']}/{meta['name']}", image.partition(":")[2]))
    return found


def unready(deployment: Dict) -> bool:
    """Tell whether a Deployment has no replica that serves."""
    return not deployment.get("status", {}).get("readyReplicas")
