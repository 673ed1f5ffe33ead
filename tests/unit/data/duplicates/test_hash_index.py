from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetoscope.data.duplicates.hash_index import near_hashes

Pairs = set[tuple[int, int]]


def brute_force(hashes: np.ndarray, radius: int) -> Pairs:
    values = [int(value) for value in hashes]
    return {
        (i, j)
        for j in range(len(values))
        for i in range(j)
        if (values[i] ^ values[j]).bit_count() <= radius
    }


def found(hashes: np.ndarray, radius: int = 3, bits: int = 64) -> Pairs:
    first, second = near_hashes(hashes, radius, bits)
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(pairs) == len(first)
    return pairs


def flipped(rng: np.random.Generator, hashes: np.ndarray, bits: int, most: int) -> np.ndarray:
    """Flip 0 to ``most`` random bits of each hash."""
    masks = [
        sum(1 << int(bit) for bit in rng.choice(bits, rng.integers(most + 1), replace=False))
        for _ in hashes
    ]
    return hashes ^ np.array(masks, dtype=np.uint64)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    centers=st.integers(1, 6),
    count=st.integers(0, 120),
    bits=st.sampled_from([8, 44, 64]),
    radius=st.integers(1, 4),
)
def test_all_pairs_are_found(seed: int, centers: int, count: int, bits: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    middles = rng.integers(0, 2**bits, centers, dtype=np.uint64, endpoint=bits < 64)
    middles &= np.uint64(2**bits - 1)
    hashes = np.unique(flipped(rng, middles[rng.integers(centers, size=count)], bits, radius + 2))
    assert found(hashes, radius, bits) == brute_force(hashes, radius)


@pytest.mark.parametrize("count", [3_000, 70_000])
def test_pairs_hidden_among_many_are_found_with_more_blocks_too(count: int) -> None:
    rng = np.random.default_rng(count)
    hashes = rng.integers(0, 2**63, count, dtype=np.uint64)
    for index in range(0, 1000, 2):
        hashes[index + 1] = flipped(rng, hashes[index : index + 1], 64, 3)[0]
    hashes = np.unique(hashes)
    pairs = found(hashes)
    assert len(pairs) >= 350
    assert all((int(hashes[i]) ^ int(hashes[j])).bit_count() <= 3 for i, j in pairs)
    if count < 5_000:
        assert pairs == brute_force(hashes, 3)


def test_many_hashes_around_one_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 2**18, 10_000, dtype=np.uint64) << np.uint64(46)
    hashes = np.unique(np.uint64(0x5A5A5A5A5A5) | noisy)
    first, second = near_hashes(hashes)
    near = hashes[first] ^ hashes[second]
    assert all(int(value).bit_count() <= 3 for value in near[:1000])
    one = hashes ^ hashes[0]
    expected = sum(0 < int(value).bit_count() <= 3 for value in one)
    assert np.count_nonzero((first == 0) | (second == 0)) == expected


def test_none_and_one_make_no_pair() -> None:
    assert found(np.zeros(0, np.uint64)) == set()
    assert found(np.array([7], np.uint64)) == set()
