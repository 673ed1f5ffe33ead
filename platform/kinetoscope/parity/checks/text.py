"""Caption cleaning against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from kinetoscope.parity.compare import CaseResult, exact_cases, failed
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.raising import outcome
from kinetoscope.parity.reference.cleaning import (
    reference_clean_caption,
    reference_lower_caption,
)

_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "clean_twice": reference_clean_caption,
    "clean_once": partial(reference_clean_caption, passes=1),
    "use_text_preprocessing_false": reference_lower_caption,
}


def check_text_cleaning(golden: GoldenFile) -> Iterator[CaseResult]:
    """Compare every caption of every way of cleaning, one case per way."""
    captions = golden.data["in"]["captions"]
    for name, wanted in golden.data["out"].items():
        if name not in _FUNCTIONS:
            yield failed(name, f"no way of cleaning is called {name!r}")
            continue
        clean = _FUNCTIONS[name]

        def compute(clean: Callable[[str], str] = clean, wanted: list[object] = wanted) -> object:
            pairs = zip(captions, wanted, strict=True)
            return [outcome(partial(clean, text), given) for text, given in pairs]

        yield from exact_cases([(name, compute, wanted)])
