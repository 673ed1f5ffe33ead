"""Learning rates."""

from __future__ import annotations

import math

from kinetoscope.training.loop.config import TrainLoopConfig


def learning_rate(step: int, config: TrainLoopConfig) -> float:
    """Return the rate of optimizer step ``step`` (from 0).

    Linear warm-up as Open-Sora's, ``(step + 1) / (warmup_steps + 1)``, times a constant or a half
    cosine from 1 at step 0 to ``final_ratio`` at the end.
    """
    schedule = config.schedule
    warmup = min(1.0, (step + 1) / (schedule.warmup_steps + 1))
    if schedule.kind == "constant":
        return config.optimizer.lr * warmup
    half = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.num_steps)))
    decay = schedule.final_ratio + (1 - schedule.final_ratio) * half
    return config.optimizer.lr * warmup * decay
