"""Measures parts of ``gpu.py``, in a process of its own: a broken GPU context ends with it.

Started with the device and whether sizes are tiny. Reads the name of a part a line, and answers
with one JSON object a line.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial

import torch
from gpu_parts import generation, proofs, stdit, syncs, vae
from gpu_parts.measure import Bench

_FAST = ("ours", "eager")

PARTS: dict[str, Callable[[Bench], dict[str, object]]] = {
    "parity": proofs.parity,
    "tests": proofs.tests,
    "syncs": syncs.count,
    **{
        f"stdit_{name}": partial(stdit.train, resolution=name, sides=_FAST)
        for name in ("144p", "360p", "720p")
    },
    "stdit_360p_spelled_out": partial(stdit.train, resolution="360p", sides=("spelled_out",)),
    **{f"vae_{mode}": partial(vae.measure, mode=mode) for mode in ("encode", "decode", "train")},
    "generation": generation.generate,
}


def main() -> int:
    """Serve names of parts until the input ends."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bench = Bench(torch.device(sys.argv[1]), tiny=sys.argv[2] == "tiny")
    for line in sys.stdin:
        try:
            told = PARTS[line.strip()](bench)
        except Exception as error:
            traceback.print_exc()
            message = str(error).strip().splitlines() or [""]
            told = {"error": f"{type(error).__name__}: {message[0]}"}
        bench.free()
        answers.write(json.dumps(told) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
