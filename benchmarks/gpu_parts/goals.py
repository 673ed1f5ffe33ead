"""What one H100 has to reach, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MFU, AIMED_MFU = 0.30, 0.40
SPEEDUP = 1.5
PEAK_ERROR = 0.10
DENOISE_SECONDS = 25.0


def goals(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each goal with what was measured and whether it is met; None is not measured."""
    ours = parts.get("stdit_360p", {}).get("ours", {})
    denoise = parts.get("generation", {}).get("denoise", {})
    parity = parts.get("parity", {})
    return [
        _goal("360p x 51 frames: MFU", ours.get("mfu"), least=MFU, aim=AIMED_MFU),
        _goal("360p x 51 frames: speedup over eager", ours.get("speedup"), least=SPEEDUP),
        _goal("360p x 51 frames: peak off the traced one", _peak_error(ours), most=PEAK_ERROR),
        _goal(
            "720p x 51 frames: seconds of all steps", denoise.get("seconds"), most=DENOISE_SECONDS
        ),
        _goal("parity: failed cases in fp32", _failed(parity.get("fp32", {})), most=0),
        _goal("parity: failed cases in bf16", _failed(parity.get("bf16", {})), most=0),
        _goal("tests/gpu: exit code", parts.get("tests", {}).get("exit_code"), most=0),
        _goal("waits of a micro-batch", parts.get("syncs", {}).get("micro_batch_total"), most=0),
    ]


def _failed(parity: Mapping[str, Any]) -> int | None:
    return parity["failed"] if parity.get("cases") else None


def _peak_error(ours: Mapping[str, Any]) -> float | None:
    peak, traced = ours.get("peak_gib"), ours.get("traced_peak_gib")
    return None if peak is None or traced is None else abs(traced - peak) / peak


def _goal(
    name: str,
    value: float | None,
    *,
    least: float | None = None,
    most: float | None = None,
    aim: float | None = None,
) -> dict[str, Any]:
    met = None
    if value is not None:
        met = (least is None or value >= least) and (most is None or value <= most)
    bounds = {"at_least": least, "at_most": most, "aim": aim}
    told = {key: bound for key, bound in bounds.items() if bound is not None}
    return {"goal": name, **told, "measured": value, "met": met}
