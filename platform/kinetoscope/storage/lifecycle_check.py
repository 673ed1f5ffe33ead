"""Does a bucket delete by itself what must stay?"""

from __future__ import annotations

from kinetoscope.core.errors import KinetoscopeError
from kinetoscope.core.findings import Finding

CHECK = "bucket lifecycle"


def examine_lifecycle(uri: str, keys: str, *, largest_bytes: int) -> list[Finding]:
    """Look for lifecycle rules that delete objects of a store; a directory has none.

    Args:
        uri: root of the store.
        keys: of the objects, below the root; a part that is ``*`` stands for any.
        largest_bytes: of these objects.
    """
    if not uri.startswith("s3://"):
        return []
    from kinetoscope.storage.s3.lifecycle import rules_that_delete

    tried = "read the lifecycle rules of the bucket"
    try:
        rules = rules_that_delete(uri, keys, largest_bytes=largest_bytes)
    except KinetoscopeError as error:
        found = f"not known whether rules delete {keys}: {error.message}"
        hint = f"see for yourself that no rule expires objects below {keys.partition('/')[0]}/"
        return [Finding(CHECK, "skipped", tried, found, hint)]
    if not rules:
        return [Finding(CHECK, "ok", tried, f"no rule deletes {keys}")]
    told = "; ".join(
        f"rule {rule.name!r} deletes objects below {rule.prefix!r} {rule.when}" for rule in rules
    )
    hint = (
        f"let no rule expire {keys}: from these objects steps know what they have done; rules that "
        "abort uploads or expire noncurrent versions do no harm"
    )
    return [Finding(CHECK, "poor", tried, told, hint)]
