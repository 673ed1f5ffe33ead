"""Caption cleaning against the reference, in compat mode ``remove_cjk``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from kinetoscope.data.text.cleaning import clean_caption, lower_caption
from kinetoscope.parity.compare import CaseResult, exact_cases, failed
from kinetoscope.parity.golden import GoldenFile
from kinetoscope.parity.raising import outcome

_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "clean_twice": lambda text: clean_caption(text, remove_cjk=True),
    "clean_once": lambda text: clean_caption(text, remove_cjk=True, passes=1),
    "use_text_preprocessing_false": lower_caption,
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
