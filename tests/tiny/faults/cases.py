"""All faults that a training is tried with, by name."""

from __future__ import annotations

from collections.abc import Callable

from tiny.faults import damage, processes, stores
from tiny.faults.stage import Stage
from tiny.faults.verdict import Verdict

Case = Callable[[Stage], Verdict]

CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        processes.killed_rank,
        processes.killed_node,
        processes.power_cut,
        processes.sigterm,
        processes.hang,
        processes.paused_tree,
        processes.older_generation_commits,
        processes.superseded_in_the_ledger,
        processes.clock_back,
        damage.full_disk,
        damage.truncated_file,
        damage.flipped_byte,
        damage.swapped_checkpoint,
        damage.foreign_checkpoint,
        damage.lost_checkpoint,
        stores.store_away,
        stores.store_away_at_the_commit,
        stores.sigterm_store_away,
        stores.sigterm_slow_store,
    )
}
SHORT = ("superseded_in_the_ledger", "full_disk", "swapped_checkpoint")
"""Those that a test of every change can afford: two starts each, and no long wait."""
