"""Counter-based randomness: every draw is a pure function of named integers and strings.

Nothing in a run depends on a generator's hidden state, so resuming and changing the number of ranks
change no sample's noise, timestep, crop or caption dropout.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

_BLOCK = 1 << 13


def random_key(*parts: int | str) -> int:
    """Return a 63-bit seed from the parts, e.g. ``random_key("noise", seed, epoch, index)``.

    BLAKE2b of the parts' unambiguous text; fits ``torch.Generator.manual_seed``.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator (Philox 4x64, itself counter-based) keyed by the parts."""
    return np.random.Generator(np.random.Philox(key=random_key(*parts)))


def uniform(key: int, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return one uniform draw in [0, 1) per index: draw ``i`` depends on ``key`` and ``i`` alone.

    SplitMix64 (Steele, Lea, Flood 2014) over ``key + index * golden gamma``, vectorised.
    """
    return (_mixed(key, index) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def chance(key: int, index: npt.ArrayLike, probability: float) -> npt.NDArray[np.bool_]:
    """Return ``uniform(key, index) < probability``, about twice as fast.

    A draw is ``k / 2**53`` for the upper 53 bits ``k`` of a mixed counter, so the comparison is
    one of integers, and exact.
    """
    bound = math.ceil(probability * 2**53)
    if bound >= 2**53:
        return np.ones(np.shape(index), dtype=np.bool_)
    return np.asarray(_mixed(key, index) < np.uint64(max(bound, 0) << 11), dtype=np.bool_)


def _mixed(key: int, index: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Return 64 mixed bits per index, in blocks that stay in a core's nearest cache."""
    counters = np.asarray(index).astype(np.uint64, copy=False)
    mixed = np.empty(counters.shape, dtype=np.uint64)
    flat, flat_mixed = counters.reshape(-1), mixed.reshape(-1)
    shifted = np.empty(min(flat.size, _BLOCK), dtype=np.uint64)
    for start in range(0, flat.size, _BLOCK):
        z = flat_mixed[start : start + _BLOCK]
        s = shifted[: z.size]
        np.multiply(flat[start : start + _BLOCK], np.uint64(0x9E3779B97F4A7C15), out=z)
        z += np.uint64(key)
        z ^= np.right_shift(z, np.uint64(30), out=s)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= np.right_shift(z, np.uint64(27), out=s)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= np.right_shift(z, np.uint64(31), out=s)
    return mixed
