"""How given weights and a model compare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from kinetoscope.core.errors import ConfigError

Difference = Literal["missing", "unexpected", "mismatched"]

_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A tensor of the wrong shape.

    Attributes:
        name: of the tensor.
        given: its shape.
        wanted: the model's.
    """

    name: str
    given: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """How weights and a model compare.

    Attributes:
        missing: names that the weights lack and the model needs.
        unexpected: names that the model does not have.
        mismatched: tensors of the wrong shape.
        new: names that the weights' layout has no place for; they keep their initial values.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    new: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self) -> str:
        """Return the differences in one line, with counts and the first names."""
        shapes = [f"{m.name} {list(m.given)} for {list(m.wanted)}" for m in self.mismatched]
        parts = (
            _count("missing", self.missing),
            _count("unexpected", self.unexpected),
            _count("of another shape", shapes),
            _count("new", self.new),
        )
        return "; ".join(part for part in parts if part) or "all tensors fit"

    def require(self, model: str, allow: Collection[Difference] = ()) -> None:
        """Raise ``ConfigError`` for a difference that is not allowed.

        Args:
            model: what the weights were to be loaded into.
            allow: differences that are none here.
        """
        refused = LoadReport(
            missing=() if "missing" in allow else self.missing,
            unexpected=() if "unexpected" in allow else self.unexpected,
            mismatched=() if "mismatched" in allow else self.mismatched,
        )
        if not refused.fits:
            raise ConfigError(
                f"the weights do not fit {model}: {refused.describe()}",
                hint="the config must be the weights' own; `allow` lets differences pass",
            )


def compare_weights(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    *,
    is_new: Callable[[str], bool] | None = None,
) -> LoadReport:
    """Return how weights compare with a model's state dict (on any device, ``meta`` included).

    Raises:
        ConfigError: a tensor has integers where the model has fractions, or the other way round.
    """
    absent = sorted(own.keys() - weights.keys())
    new = {name for name in absent if is_new is not None and is_new(name)}
    mismatched = []
    for name in weights:
        if name not in own:
            continue
        given = weights[name]
        if given.is_floating_point() != own[name].is_floating_point():
            raise ConfigError(f"{name} is {given.dtype}, the model's is {own[name].dtype}")
        if given.shape != own[name].shape:
            mismatched.append(Mismatch(name, tuple(given.shape), tuple(own[name].shape)))
    return LoadReport(
        missing=tuple(name for name in absent if name not in new),
        unexpected=tuple(sorted(set(weights) - own.keys())),
        mismatched=tuple(mismatched),
        new=tuple(sorted(new)),
    )


def _count(what: str, names: Collection[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} {what} ({', '.join(list(names)[:_NAMES_SHOWN])}{more})"
