"""Which clips are generated."""

from __future__ import annotations

from collections import Counter

from tiny.clips import clip_row

from kinetoscope.data.clip_table import ClipTable, Split
from kinetoscope.data.synthetic.vocabulary import ALL_COMBINATIONS, parse
from kinetoscope.evaluation.config import AdherenceConfig
from kinetoscope.evaluation.sample_plan import (
    adherence_plan,
    shuffled_prompts,
    trained_combinations,
)

CONFIG = AdherenceConfig(num_clips=120, num_untrained=10, num_per_heldout=2)
TRAINED = set(ALL_COMBINATIONS[6:])


def table(*captions: tuple[str, Split]) -> ClipTable:
    return ClipTable.from_rows(
        clip_row(number, caption=caption, split=split)
        for number, (caption, split) in enumerate(captions)
    )


def test_every_trained_combination_comes_up_equally_often_and_held_out_ones_apart() -> None:
    plan = adherence_plan(TRAINED, CONFIG, seed=1)
    trained = Counter(parse(clip.prompt) for clip in plan if clip.kind == "trained")
    assert set(trained) == TRAINED
    assert max(trained.values()) - min(trained.values()) <= 1
    heldout = Counter(parse(clip.prompt) for clip in plan if clip.kind == "heldout")
    assert heldout == Counter(dict.fromkeys(ALL_COMBINATIONS[:6], 2))


def test_every_clip_has_noise_of_its_own_that_depends_on_the_run() -> None:
    seeds = [clip.seed for clip in adherence_plan(TRAINED, CONFIG, seed=1)]
    others = [clip.seed for clip in adherence_plan(TRAINED, CONFIG, seed=2)]
    assert len(set(seeds + others)) == len(seeds) + len(others)
    assert seeds == [clip.seed for clip in adherence_plan(TRAINED, CONFIG, seed=1)]


def test_shuffled_prompts_are_the_same_ones_in_another_order() -> None:
    clips = [clip for clip in adherence_plan(TRAINED, CONFIG, seed=1) if clip.kind == "trained"]
    own = [parse(clip.prompt) for clip in clips]
    other = shuffled_prompts(clips, seed=1)
    assert Counter(own) == Counter(other)
    assert sum(a == b for a, b in zip(own, other, strict=True)) < 10


def test_adherence_applies_only_when_all_training_captions_are_in_the_grammar() -> None:
    shapes: list[tuple[str, Split]] = [
        ("a red circle moving left", "train"),
        ("a blue square standing still", "train"),
    ]
    combinations = trained_combinations(table(*shapes, ("a dog", "heldout")))
    assert combinations == {parse(caption) for caption, _ in shapes}
    assert trained_combinations(table(*shapes, ("a dog runs", "train"))) is None
