from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinetoscope.core.errors import CorruptError, DataError, NotFoundError, UserError
from kinetoscope.data.latents.format import LatentEntry, LatentSample, tensors_key
from kinetoscope.data.latents.reader import LatentReader
from kinetoscope.data.latents.writer import LatentWriter
from kinetoscope.storage.directory import DirectoryStore

ENTRIES = [
    LatentEntry(
        clip_id=f"clip{number // 2}",
        start_frame=number % 2,
        num_frames=17,
        height=32,
        width=32,
        fps=8.0,
    )
    for number in range(10)
]


def make_sample(number: int) -> LatentSample:
    generator = torch.Generator().manual_seed(number)
    text_generator = torch.Generator().manual_seed(number // 2)
    used = number // 2 + 1
    text = torch.zeros(6, 8)
    text[:used] = torch.randn(used, 8, generator=text_generator)
    return LatentSample(
        mean=torch.randn(4, 5, 4, 4, generator=generator) * 3 + 1,
        logvar=torch.randn(4, 5, 4, 4, generator=generator) - 4,
        text=text,
        text_mask=torch.arange(6) < used,
    )


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def write_all(store: DirectoryStore) -> LatentWriter:
    writer = LatentWriter(store, ENTRIES, items_per_shard=4)
    for shard in writer.missing_shards():
        first = shard * 4
        count = len(writer.shard_entries(shard))
        writer.write_shard(shard, [make_sample(first + i) for i in range(count)])
    return writer


def same(one: LatentSample, other: LatentSample) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("mean", "logvar", "text", "text_mask")
    )


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_samples_come_back_as_they_were_written(store: DirectoryStore, cache_bytes: int) -> None:
    write_all(store).commit()
    reader = LatentReader(store, cache_bytes=cache_bytes)
    assert len(reader) == 10
    for number in (9, 0, 5, 1, 9, 3):
        assert same(reader.read(number), make_sample(number))
        entry = ENTRIES[number]
        assert reader.find(entry.clip_id, entry.start_frame, 17, (32, 32)) == number


def test_the_measured_normalisation_makes_sampled_latents_standard(store: DirectoryStore) -> None:
    write_all(store).commit()
    reader = LatentReader(store)
    samples = [make_sample(number) for number in range(10)]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [
            s.mean + (s.logvar / 2).exp() * torch.randn(s.mean.shape, generator=generator)
            for s in samples * 20
        ]
    )
    z = (drawn - reader.shift.view(-1, 1, 1, 1)) / reader.scale.view(-1, 1, 1, 1)
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3, 4)), torch.ones(4), atol=0.02, rtol=0)


def test_a_given_normalisation_is_kept(store: DirectoryStore) -> None:
    write_all(store).commit(normalization=([0.0] * 4, [2.0] * 4))
    assert LatentReader(store).scale.tolist() == [2.0] * 4


def test_only_missing_shards_are_written_again(store: DirectoryStore) -> None:
    writer = LatentWriter(store, ENTRIES, items_per_shard=4)
    writer.write_shard(1, [make_sample(number) for number in range(4, 8)])
    assert LatentWriter(store, ENTRIES, items_per_shard=4).missing_shards() == [0, 2]
    with pytest.raises(CorruptError, match=r"\[0, 2\]"):
        writer.commit()


def test_a_shard_whose_write_was_cut_short_is_missing(store: DirectoryStore) -> None:
    write_all(store)
    store.delete("shards/00001.json")  # tensors there, record not yet
    assert LatentWriter(store, ENTRIES, items_per_shard=4).missing_shards() == [1]


def test_shards_of_other_entries_are_missing(store: DirectoryStore) -> None:
    write_all(store)
    changed = [*ENTRIES[:9], ENTRIES[9].model_copy(update={"start_frame": 5})]
    assert LatentWriter(store, changed, items_per_shard=4).missing_shards() == [2]
    assert LatentWriter(store, ENTRIES, items_per_shard=5).missing_shards() == [0, 1]


def test_a_flipped_byte_is_noticed(store: DirectoryStore) -> None:
    key = tensors_key(write_all(store).commit().shards[0])
    data = bytearray(store.get_bytes(key))
    data[-3] ^= 1
    store.put_bytes(key, bytes(data))
    reader = LatentReader(store)
    with pytest.raises(CorruptError, match=key):
        reader.read(0)
    assert same(reader.read(9), make_sample(9))


def test_a_writer_that_comes_late_changes_nothing_that_was_committed(
    store: DirectoryStore,
) -> None:
    late = LatentWriter(store, ENTRIES, items_per_shard=4)
    write_all(store).commit()
    reader = LatentReader(store)
    # On other hardware the same samples have other last bits.
    late.write_shard(0, [make_sample(number + 1) for number in range(4)])
    assert same(reader.read(0), make_sample(0))
    assert same(LatentReader(store).read(0), make_sample(0))


def test_texts_are_stored_once_per_clip_and_without_padding(store: DirectoryStore) -> None:
    samples = [make_sample(0)] * 4
    entries = [ENTRIES[0].model_copy(update={"start_frame": i}) for i in range(4)]
    LatentWriter(store, entries, items_per_shard=4).write_shard(0, samples)
    (stored,) = (stat for stat in store.list("shards") if stat.key.endswith(".safetensors"))
    tensors = 4 * 2 * samples[0].mean.nbytes
    assert stored.size_bytes < tensors + 2 * samples[0].text.nbytes + 1500


def test_a_window_that_was_not_encoded_is_named(store: DirectoryStore) -> None:
    write_all(store).commit()
    with pytest.raises(NotFoundError, match="clip0, frames 7 to 23 at 32x32"):
        LatentReader(store).find("clip0", 7, 17, (32, 32))


@pytest.mark.parametrize(
    ("version", "hint"),
    [(1, "run encode_latents again"), (2, "run encode_latents again"), (4, "update Kinetoscope")],
)
def test_other_formats_are_refused(store: DirectoryStore, version: int, hint: str) -> None:
    index = write_all(store).commit()
    store.put_bytes("index.json", index.model_copy(update={"format_version": version}).to_bytes())
    with pytest.raises(UserError, match=f"format {version}") as caught:
        LatentReader(store)
    assert caught.value.hint == hint


def test_nothing_to_encode_is_an_error(store: DirectoryStore) -> None:
    with pytest.raises(DataError, match="no samples"):
        LatentWriter(store, [])
