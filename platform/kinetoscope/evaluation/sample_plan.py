"""Which clips an evaluation generates: prompts, seeds and names, from the run's seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kinetoscope.core.keys import generator, random_key
from kinetoscope.data.synthetic.vocabulary import ALL_COMBINATIONS, Combination, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinetoscope.data.clip_table import ClipTable
    from kinetoscope.evaluation.config import AdherenceConfig

Kind = Literal["trained", "heldout", "untrained", "sample"]


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """A clip to generate.

    Attributes:
        kind: ``trained`` and ``heldout``: a combination that was, or was not, in the training
            captions; ``untrained``: made by the initial weights; ``sample``: any caption.
        number: counts up within the kind.
        prompt: raw, without scores.
        seed: of the noise; `kino generate --seed` takes the same.
    """

    kind: Kind
    number: int
    prompt: str
    seed: int

    @property
    def name(self) -> str:
        """The clip's file name."""
        return f"{self.kind}-{self.number:04d}.mp4"


def trained_combinations(table: ClipTable) -> set[Combination] | None:
    """Return what the training captions show; None unless all are in the set's grammar."""
    found = set()
    for caption in set(table.split("train").caption):
        combination = parse(caption)
        if combination is None:
            return None
        found.add(combination)
    return found


def adherence_plan(
    trained: set[Combination], config: AdherenceConfig, seed: int
) -> list[PlannedClip]:
    """Plan the clips that adherence is measured on, each on noise of its own.

    Every trained combination comes up equally often, in an order that depends on the seed.
    """
    known = [combination for combination in ALL_COMBINATIONS if combination in trained]
    unknown = [combination for combination in ALL_COMBINATIONS if combination not in trained]
    shuffled = [known[i] for i in generator("adherence-order", seed).permutation(len(known))]
    return [
        *_clips("trained", _cycle(shuffled, config.num_clips), seed),
        *_clips("heldout", unknown * config.num_per_heldout, seed),
        *_clips("untrained", _cycle(shuffled, config.num_untrained), seed),
    ]


def sample_plan(table: ClipTable, count: int, seed: int) -> list[PlannedClip]:
    """Plan clips for held-out captions, repeated when there are fewer."""
    captions = list(dict.fromkeys(table.split("heldout").caption))
    prompts = [captions[i % len(captions)] for i in range(count)]
    return [_clip("sample", number, prompt, seed) for number, prompt in enumerate(prompts)]


def shuffled_prompts(clips: Sequence[PlannedClip], seed: int) -> list[Combination]:
    """Return the clips' combinations in a random order: other captions for the same clips."""
    order = generator("adherence-shuffle", seed).permutation(len(clips))
    combinations = [parse(clips[i].prompt) for i in order]
    return [combination for combination in combinations if combination is not None]


def _cycle(combinations: list[Combination], count: int) -> list[Combination]:
    return [combinations[i % len(combinations)] for i in range(count)]


def _clips(kind: Kind, combinations: list[Combination], seed: int) -> list[PlannedClip]:
    return [_clip(kind, number, item.caption, seed) for number, item in enumerate(combinations)]


def _clip(kind: Kind, number: int, prompt: str, seed: int) -> PlannedClip:
    return PlannedClip(kind, number, prompt, random_key("sample", seed, kind, number) % 2**31)
