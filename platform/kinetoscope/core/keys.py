"""Counter-based randomness: every draw is a pure function of named integers and strings.

Nothing in a run depends on a generator's hidden state, so resuming and changing the number of ranks
change no sample's noise, timestep, crop or caption dropout.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


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
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.asarray(index, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
