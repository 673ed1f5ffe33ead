"""From measured videos to the rows of the clip table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from kinetoscope.core.errors import DataError
from kinetoscope.data.conditioning import condition_text
from kinetoscope.data.duplicates.groups import join_pairs, number_sources
from kinetoscope.data.duplicates.pairs import near_pairs
from kinetoscope.data.prepare.filters import drop_reasons
from kinetoscope.data.prepare.split import split_groups, told_share
from kinetoscope.data.report.data import NearPair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kinetoscope.data.config import PrepareDataConfig
    from kinetoscope.data.prepare.candidates import Clips

Sizes = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

# By score: from where on a clip has a flaw that people want to know of, and its words.
_FLAWS = {
    "bars": (0.02, "have black bars"),
    "blank": (0.5, "are mostly blank"),
    "frozen": (0.5, "are mostly frozen"),
}
# A key of a video: that many hexadecimal digits of its digest.
_KEY_DIGITS = 15


class Selection:
    """Which clips are kept.

    Args:
        clips: all there are.
        config: of the step.
    """

    def __init__(self, clips: Clips, config: PrepareDataConfig) -> None:
        reason = drop_reasons(clips.table, config.filters, config.measured)
        self.table = clips.table.with_columns(reason)
        """The clips, with the reasons why those are dropped that are; once `split`, also with
        ``group``, ``split`` and ``text`` (null of a dropped one)."""
        self.pairs: list[NearPair] = []
        """Near-duplicates among the kept clips, by their rows of the table; once `split`."""
        self._signatures = clips.signatures
        self._config = config

    @property
    def num_kept(self) -> int:
        """Clips that are kept."""
        return self.table["reason"].null_count()

    @property
    def dropped(self) -> Counter[str]:
        """Clips that are dropped, by reason."""
        return Counter(dict(self.table["reason"].drop_nulls().value_counts().iter_rows()))

    @property
    def kept(self) -> pl.DataFrame:
        """The rows of the clips that are kept."""
        return self.table.filter(pl.col("reason").is_null())

    def split(self, seed: int) -> None:
        """Group, split and condition the kept clips, of which there are some.

        Where all come from one video, its takes are split, and clips for training that go on where
        a held-out one ends, or the other way round, are dropped as far as half of them stay.

        Raises:
            DataError: the clips can't be split.
        """
        groups = self._groups()
        if groups.max() == 0:
            raise self._one_group()
        kept = self.kept
        key = pl.col("start_frame") if self.of_one_video else _VIDEO_KEY
        keys = kept.select(key.alias("key"))["key"].to_numpy()
        fraction = self._config.split.heldout_fraction
        heldout = split_groups(groups, keys, fraction=fraction, seed=seed)
        touching = _next_to_heldout(kept, heldout) if self.of_one_video else np.zeros_like(heldout)
        outcome = pl.DataFrame(
            {
                "row": self.table["reason"].is_null().arg_true(),
                "group": groups,
                "split": pl.Series(heldout).replace_strict(_SIDES, return_dtype=pl.String),
                "text": self._texts(kept),
            }
        ).filter(~touching)
        rows = self.table.with_row_index("row").join(
            outcome, on="row", how="left", maintain_order="left"
        )
        left_out = pl.col("reason").is_null() & pl.col("group").is_null()
        reason = pl.when(left_out).then(pl.lit("next_to_heldout")).otherwise(pl.col("reason"))
        self.table = rows.with_columns(reason.alias("reason")).drop("row")

    @property
    def of_one_video(self) -> bool:
        """Whether all kept clips come from one video."""
        return self.table["digest"].filter(self.table["reason"].is_null()).n_unique() == 1

    def sizes_to_train_on(self) -> Sizes:
        """Return ``num_frames``, ``height`` and ``width`` of the clips to train on."""
        train = self.table.filter(pl.col("split") == "train")
        return (
            train["num_frames"].to_numpy(),
            train["height"].to_numpy(),
            train["width"].to_numpy(),
        )

    def notes(self) -> Iterator[str]:
        """Yield what people should know of the kept clips, once they are split."""
        kept = self.kept
        if self.of_one_video:
            yield "all clips come from one video: other takes of it are held out than trained on"
        num_heldout = int((kept["split"] == "heldout").sum())
        if told := told_share(num_heldout, len(kept), self._config.split.heldout_fraction):
            yield told
        rates = kept["fps"].round(1).unique().sort()
        if len(rates) > 1:
            yield (
                f"clips have {len(rates)} frame rates, from {rates[0]:g} to {rates[-1]:g} a second:"
                " each is trained on at its own (prepare_data.fps sets one for all)"
            )
        for score, (least, words) in _FLAWS.items():
            if score in kept.columns and (count := int((kept[score] > least).sum())):
                yield (
                    f"{count} of {len(kept)} clips {words} ({score} > {least:g}): "
                    "prepare_data.filters.where can leave them out"
                )

    def _groups(self) -> npt.NDArray[np.int64]:
        kept, near = self.kept, self._config.near_duplicates
        alike = kept["shot"].cast(pl.String) if self.of_one_video else kept["video"]
        sources = number_sources(alike)
        if not near.enabled:
            return sources
        rows = self.table["reason"].is_null().arg_true().to_numpy()
        pairs = near_pairs(self._signatures[rows], near.max_distance, sources)
        self.pairs = [NearPair(int(rows[i]), int(rows[j]), d, kind) for i, j, d, kind in pairs]
        return join_pairs(sources, pairs)

    def _texts(self, kept: pl.DataFrame) -> list[str]:
        names, captions = self._config.conditioning, kept["caption"].to_list()
        if not names:
            return captions
        return [
            # What was not measured is not said.
            condition_text(text, {name: row[name] for name in names if row[name] is not None})
            for text, row in zip(captions, kept.select(names).iter_rows(named=True), strict=True)
        ]

    def _one_group(self) -> DataError:
        kept = self.kept
        clips = f"all {len(kept)} clips are" if len(kept) > 1 else "the only clip is"
        more = "add a video that shows something else"
        others = f"; dropped: {told_counts(self.dropped)}" if self.dropped else ""
        if self.of_one_video and kept["shot"].n_unique() == 1:
            what = f"{clips} of one take of one video, {kept['video'][0]}"
            hint = f"{more}, or lower prepare_data.scenes.adaptive_threshold if it has cuts"
        else:
            what = f"{clips} near-duplicates of each other"
            near = "prepare_data.near_duplicates"
            lower = f"lower {near}.max_distance, " if any(p.distance for p in self.pairs) else ""
            hint = f"{more}, {lower}or set {near}.enabled=false"
        return DataError(f"{what}: none can be held out from training{others}", hint=hint)


def told_counts(counts: Mapping[str, int]) -> str:
    """Return counts by reason in words."""
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items())) or "none"


def _next_to_heldout(kept: pl.DataFrame, heldout: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the clips to leave out of one video's: those for training that touch a held-out one.

    None are where that would be most.
    """
    starts = kept["start_frame"].to_numpy()
    ends = starts + kept["num_frames"].to_numpy()
    edges = np.concatenate([starts[heldout], ends[heldout]])
    touching = ~heldout & (np.isin(starts, edges) | np.isin(ends, edges))
    return touching if 2 * touching.sum() <= (~heldout).sum() else np.zeros_like(heldout)


_SIDES = {True: "heldout", False: "train"}
_VIDEO_KEY = (
    pl.col("digest")
    .str.strip_prefix("sha256:")
    .str.slice(0, _KEY_DIGITS)
    .str.to_integer(base=16, dtype=pl.Int64)
)
