"""Comparing what we compute with what the reference gave, case by case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kinetoscope.parity.golden import SINGLE_CASE, GoldenFile, Tolerance

LARGEST_SHARE = 1e-4
"""Share of a tensor's largest value that no tolerance of single elements may exceed."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case went.

    Attributes:
        case: its name.
        max_error: largest absolute difference, or the number of unequal values of an exact case;
            nan where nothing could be compared.
        tolerance: what was allowed, in words.
        ok: whether the case passed.
        detail: of a failure: which output, and how; empty when it passed.
    """

    case: str
    max_error: float
    tolerance: str
    ok: bool
    detail: str = ""


def failed(case: str, detail: str) -> CaseResult:
    """Return the result of a case that could not be computed."""
    return CaseResult(case, math.nan, "-", ok=False, detail=detail)


def attempt(case: str, check: Callable[[], CaseResult]) -> CaseResult:
    """Run a check; whatever it raises is the case's failure, not the end of the run."""
    try:
        return check()
    except Exception as error:
        return failed(case, f"{type(error).__name__}: {error}".splitlines()[0])


def tensor_cases(
    golden: GoldenFile, compute: Callable[[str], Mapping[str, Tensor]]
) -> Iterator[CaseResult]:
    """Compare every case of a tensor file.

    Args:
        golden: the file.
        compute: gives our outputs of a case by the reference's names. Each output of the
            reference must be among them.
    """
    for case in golden.cases:

        def check(case: str = case) -> CaseResult:
            return _compare_tensors(golden, case, compute(case))

        yield attempt(case or "all", check)


def exact_cases(pairs: Iterable[tuple[str, Callable[[], object], object]]) -> Iterator[CaseResult]:
    """Compare values of JSON exactly.

    Args:
        pairs: name of the case, a function that gives our value, the reference's value.
    """
    for case, compute, wanted in pairs:

        def check(
            case: str = case, compute: Callable[[], object] = compute, wanted: object = wanted
        ) -> CaseResult:
            unequal = list(_differences(compute(), wanted, ""))
            detail = "; ".join(unequal[:3])
            return CaseResult(case, len(unequal), "exact", ok=not unequal, detail=detail)

        yield attempt(case, check)


def within(case: str, errors: Iterable[float], allowed: float, unit: str) -> CaseResult:
    """Return the result of a case whose errors must all be at most ``allowed``."""
    worst = max(errors, default=math.nan)
    ok = worst <= allowed
    detail = "" if ok else f"off by {worst:.3g}"
    return CaseResult(case, worst, f"{allowed:g} {unit}", ok=ok, detail=detail)


def _compare_tensors(golden: GoldenFile, case: str, ours: Mapping[str, Tensor]) -> CaseResult:
    wanted = golden.outputs(case)
    missing = sorted(set(wanted) - set(ours))
    if missing:
        return failed(case or "all", f"outputs that we do not compute: {', '.join(missing[:5])}")
    if not wanted:
        return CaseResult(case or "all", 0.0, "no outputs", ok=not ours)
    worst, used, problems = 0.0, golden.tolerance("out"), []
    for name, value in wanted.items():
        tolerance = golden.tolerance(name)
        error, ok = tensor_error(ours[name], value, tolerance)
        if not ok:
            problems.append(f"{name} off by {error:.3g}")
        if math.isnan(error) or error >= worst:
            worst, used = error, tolerance
    return CaseResult(
        case or "all", worst, _in_words(used), ok=not problems, detail="; ".join(problems[:3])
    )


def tensor_error(ours: Tensor, wanted: Tensor, tolerance: Tolerance) -> tuple[float, bool]:
    """Return the largest absolute difference and whether it is within the tolerance.

    An absolute tolerance could hide a tensor that is small altogether: whatever ``atol`` and
    ``rtol`` allow, the difference must be at most `LARGEST_SHARE` of the tensor's largest value.
    Where that is 0, they alone count. Nan equals nan only; a wrong shape is an error of infinity.
    """
    if ours.shape != wanted.shape:
        return math.inf, False
    if not wanted.numel():
        return 0.0, True
    a, b = ours.detach().double(), wanted.double()
    if not torch.equal(a.isnan(), b.isnan()) or not torch.equal(a.isinf(), b.isinf()):
        return math.nan, False
    if not torch.equal(a[a.isinf()], b[b.isinf()]):
        return math.inf, False
    finite = b.isfinite()
    difference, size = (a - b)[finite].abs(), b[finite].abs()
    if not difference.numel():
        return 0.0, True
    worst = float(difference.max())
    largest = float(size.max())
    elementwise = bool((difference <= tolerance.atol + tolerance.rtol * size).all())
    shown = largest == 0 or worst <= LARGEST_SHARE * largest
    relative = tolerance.relative_to_max
    return worst, (elementwise and shown) or (relative is not None and worst <= relative * largest)


def _in_words(tolerance: Tolerance) -> str:
    rules = []
    if tolerance.atol or tolerance.rtol:
        rules.append(f"{tolerance.atol:g} + {tolerance.rtol:g}|x|")
    if tolerance.relative_to_max is not None:
        rules.append(f"{tolerance.relative_to_max:g} max|x|")
    return " or ".join(rules) or "exact"


def _differences(ours: object, wanted: object, path: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(ours, Mapping):
        if set(ours) != set(wanted):
            yield f"{path or 'keys'}: {sorted(set(ours) ^ set(wanted))[:5]} on one side only"
            return
        for key, value in wanted.items():
            yield from _differences(ours[key], value, f"{path}.{key}")
    elif isinstance(wanted, list | tuple) and isinstance(ours, list | tuple):
        if len(ours) != len(wanted):
            yield f"{path or 'value'}: {len(ours)} entries for {len(wanted)}"
            return
        for index, (a, b) in enumerate(zip(ours, wanted, strict=True)):
            yield from _differences(a, b, f"{path}[{index}]")
    elif ours != wanted:
        yield f"{path or 'value'}: {ours!r} for {wanted!r}"


__all__ = [
    "LARGEST_SHARE",
    "SINGLE_CASE",
    "CaseResult",
    "attempt",
    "exact_cases",
    "failed",
    "tensor_cases",
    "tensor_error",
    "within",
]
