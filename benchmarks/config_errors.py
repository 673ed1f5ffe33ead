"""Compare refusing recipes with ``kino config show`` of a good one: CPU times of alternating runs.

The bound (at most 1.5 times) holds for the worst of recipes with few and with thousands of faults.
The last line is JSON. Exit code 1 when the bound is missed, or a recipe was not refused.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NUM_RUNS = 5
MAX_RATIO = 1.5
GOOD = "smoke"

_LEVELS = (f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
RECIPES = {
    "key_twice": "extends: smoke\nseed: 1\nseed: 2\n",
    "number_as_text": 'extends: smoke\nseed: "17"\n',
    "unknown_key": "extends: smoke\ntrain_dit: {0: {loop: {num_step: 1}}}\n",
    "loop": "extends: smoke\nmodels: &x {dit: *x}\n",
    "bomb": "\n".join(["extends: smoke", "a0: &a0 [1]", *_LEVELS]),
    "deep": "extends: smoke\nmodels: " + "{dit: " * 100_000,
    "unknown_keys": "\n".join(["extends: smoke", *(f"key_{n}: 1" for n in range(40_000))]),
    "unknown_keys_within": "\n".join(
        ["extends: smoke", "prepare_data:", *(f"  key_{n}: {{a: 1}}" for n in range(2_450))]
    ),
    "wrong_items": "\n".join(["extends: smoke", "train_vae:", *["- {}"] * 4_950]),
    "wrong_values": "\n".join(
        ["extends: smoke", "train_vae:", *["- {objective: x, plan: {a: 1}, loop: {b: c}}"] * 800]
    ),
    "wrong_gates": "\n".join(
        ["extends: smoke", "register_model:", "  gates:", *["  - {metric: 1}"] * 2_450]
    ),
}


def main() -> int:
    """Measure and print; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        recipes = {"good": GOOD}
        for name, text in RECIPES.items():
            path = Path(folder, f"{name}.yaml")
            path.write_text(text)
            recipes[name] = str(path)
        seconds: dict[str, list[float]] = {name: [] for name in recipes}
        _show(GOOD, refused=False)
        for _ in range(NUM_RUNS):
            for name, recipe in recipes.items():
                seconds[name].append(_show(recipe, refused=name != "good"))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    good = medians.pop("good")
    ratios = {f"{name}_ratio": round(value / good, 3) for name, value in medians.items()}
    worst = max(ratios.values())
    print(f"median of {NUM_RUNS}: {good:.3f} s of CPU for {GOOD}; the worst error {worst} times")
    told = {"good_cpu_seconds": round(good, 4), **ratios, "worst_ratio": worst}
    print(json.dumps({**told, "max_ratio": MAX_RATIO}))
    return int(worst > MAX_RATIO)


def _show(recipe: str, *, refused: bool) -> float:
    """Return the CPU seconds of ``kino config show``; raise when it does not end as it should."""
    command = [sys.executable, str(ROOT / "cli.py"), "config", "show", recipe]
    before = os.times()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    after = os.times()
    if done.returncode != (2 if refused else 0):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main())
