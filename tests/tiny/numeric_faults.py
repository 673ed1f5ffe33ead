"""Small numerical faults of a module: its source with one of them at a time, by rule.

Kinds: ``scale`` (a result or constant times 1.001), ``sign``, ``swap`` (two neighbours), ``eps``
(ten times), ``drop`` (a term of a sum), ``off by one`` (an index, a bound) and ``axis``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

SCALED = "_planted_scale"
"""Name of the function, put into the module, that multiplies the tensors of a result."""

_HELPER = f"""
def {SCALED}(value):
    import torch
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        {SCALED}.did = True
        return value * 1.001
    if type(value) is dict:
        return {{key: {SCALED}(entry) for key, entry in value.items()}}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)({SCALED}(entry) for entry in value)
    return value
{SCALED}.did = False
"""
_AXES = {"dim", "axis", "dims", "start_dim", "end_dim", "correction"}
_TAKES_AXIS = {
    "amax", "cat", "chunk", "flatten", "mean", "movedim", "narrow", "norm", "repeat_interleave",
    "softmax", "split", "stack", "sum", "transpose", "unbind", "unflatten", "unsqueeze", "var_mean",
}  # fmt: skip
_COUNTS = {"arange", "full", "new_full", "pad", "pow", "range", "repeat", "repeat_interleave"}
_EVEN, _COMMUTES = (
    {"abs", "square"},
    {
        "max",
        "min",
        "maximum",
        "minimum",
        "promote_types",
        "add_residual",
        "transpose",
        "_may_be_longer",
    },
)
_GROUP = re.compile(r"\((\w+) (\w+)")
_LARGEST_EPS = 1e-3
_NORMS = {"GroupNorm", "BatchNorm2d", "BatchNorm3d", "LayerNorm"}
_TORCH_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        function: in which it is, ``Class.method``; ``-`` for the module itself.
        lines: of its statement in the original source, of a compound one the first.
        kind: see the module.
        change: the line's expression before and after.
        source: of the whole module with the fault.
    """

    function: str
    lines: range
    kind: str
    change: str
    source: str

    @property
    def name(self) -> str:
        """Name without the line, which moves."""
        return f"{self.function}: {self.kind}: {self.change}"


Change = tuple[str, ast.AST, Callable[[], None]]
"""Kind, the node to show before and after, and what changes it in place."""


def faults(path: Path, skipped: frozenset[str] = frozenset()) -> Iterator[Fault]:
    """Yield every fault of a module.

    Args:
        path: of the module.
        skipped: functions without numbers that a golden value could tell.
    """
    text = path.read_text(encoding="utf-8")
    count = len(list(_changes(ast.parse(text), skipped)))
    for index in range(count):
        tree = ast.parse(text)
        function, lines, kind, node, apply = list(_changes(tree, skipped))[index]
        before = ast.unparse(node)
        apply()
        after = ast.unparse(node)
        future = "from __future__ import annotations\n"
        source = future + _HELPER + ast.unparse(tree)
        yield Fault(function, lines, kind, f"{before} -> {after}".replace(SCALED, "scale"), source)


def _changes(
    tree: ast.Module, skipped: frozenset[str]
) -> Iterator[tuple[str, range, str, ast.AST, Callable[[], None]]]:
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    ]
    for place, node in _numerical(tree, _Place(), skipped):
        for kind, shown, apply in _of_node(node):
            yield place.function or "-", place.lines, kind, shown, apply


@dataclass(frozen=True, slots=True)
class _Place:
    function: str = ""
    lines: range = range(0)


def _numerical(
    node: ast.AST, place: _Place, skipped: frozenset[str]
) -> Iterator[tuple[_Place, ast.AST]]:
    """Yield the nodes that compute, each with where it is."""
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
        return
    if isinstance(node, ast.If) and any(isinstance(child, ast.Raise) for child in node.body):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.stmt):
        simple = not hasattr(node, "body")
        last = (node.end_lineno or node.lineno) if simple else node.lineno
        place = _Place(place.function, range(node.lineno, last + 1))
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        name = f"{place.function}.{node.name}" if place.function else node.name
        place = _Place(name, place.lines)
        if name in skipped or node.name in skipped:
            return
        children: Iterator[ast.AST] = iter(node.body)
    elif isinstance(node, ast.AnnAssign):
        children = iter([node.value] if node.value else [])
    else:
        children = ast.iter_child_nodes(node)
    yield place, node
    for child in children:
        yield from _numerical(child, place, skipped)


def _of_node(node: ast.AST) -> Iterator[Change]:
    """Yield the changes of a node itself, without those of the nodes below it."""
    for kind, rule in _RULES.items():
        if isinstance(node, kind):
            yield from rule(node)


def _of_return(node: ast.Return) -> Iterator[Change]:
    value = node.value
    if isinstance(value, ast.Tuple):
        for index, entry in enumerate(value.elts):
            yield "scale", node, partial(value.elts.__setitem__, index, _scaled(entry))
    elif value is not None and not isinstance(value, ast.Constant | ast.Compare | ast.BoolOp):
        yield "scale", node, partial(setattr, node, "value", _scaled(value))


def _of_operation(node: ast.BinOp) -> Iterator[Change]:
    left, right, nothing = node.left, node.right, ast.Constant(0)
    if isinstance(node.op, ast.Add | ast.Sub):
        if not isinstance(left, ast.Constant | ast.List):
            yield "drop", node, partial(_set, node, op=ast.Add(), right=nothing)
        if isinstance(node.op, ast.Add) and not isinstance(right, ast.Constant | ast.List):
            yield "drop", node, partial(_set, node, left=nothing)
        yield "sign", node, partial(_set, node, op=_opposite(node.op))
    # Under a square the sign of a difference is lost.
    even = isinstance(node.op, ast.Sub) and getattr(node, "even", False)
    if not even and isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv | ast.MatMult):
        yield "swap", node, partial(_set, node, left=right, right=left)
    if isinstance(node.op, ast.FloorDiv | ast.Mod | ast.Add | ast.Sub):
        yield from _off_by_one(right, node)


def _of_minus(node: ast.UnaryOp) -> Iterator[Change]:
    if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "sign", node, partial(_set, node, op=ast.UAdd())


def _of_addition(node: ast.AugAssign) -> Iterator[Change]:
    if isinstance(node.op, ast.Add | ast.Sub):
        yield "sign", node, partial(_set, node, op=_opposite(node.op))
        yield "drop", node, partial(_set, node, value=ast.Constant(0))


def _of_call(node: ast.Call) -> Iterator[Change]:
    name = ast.unparse(node.func).rpartition(".")[2]
    if name in _EVEN and isinstance(node.func, ast.Attribute):
        _set(node.func.value, even=True)
    if name not in _COMMUTES:
        # The last two of addcmul are factors.
        yield from _swaps(node, node.args, -1 if name.startswith("addcmul") else None)
    for value in node.args:
        if name in _TAKES_AXIS:
            yield from _axes(value, node)
        elif name in _COUNTS:
            yield from _off_by_one(value, node)
    for keyword in node.keywords:
        yield from (_axes if keyword.arg in _AXES else _off_by_one)(keyword.value, node)
    if name in _NORMS and not any(keyword.arg == "eps" for keyword in node.keywords):
        eps = ast.keyword("eps", ast.Constant(10 * _TORCH_EPS))
        yield "eps", node, partial(node.keywords.append, eps)


def _of_index(node: ast.Subscript) -> Iterator[Change]:
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for part in parts:
        bounds = [part.lower, part.upper, part.step] if isinstance(part, ast.Slice) else [part]
        for bound in bounds:
            if bound is not None:
                yield from _off_by_one(bound, node)
        if isinstance(part, ast.Slice) and part.lower is not None and part.upper is None:
            yield "swap", node, partial(_set, part, lower=None, upper=part.lower)


def _of_comparison(node: ast.Compare) -> Iterator[Change]:
    for side in (node.left, *node.comparators):
        yield from _off_by_one(side, node)


def _of_list(node: ast.Tuple | ast.List) -> Iterator[Change]:
    # Of names, e.g. those of a Literal, the order says nothing.
    if not all(
        isinstance(item, ast.Constant) and isinstance(item.value, str) for item in node.elts
    ):
        yield from _swaps(node, node.elts)


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, float):
        if 0 < abs(value) <= _LARGEST_EPS:
            yield "eps", node, partial(_set, node, value=value * 10)
        elif value:
            yield "scale", node, partial(_set, node, value=value * 1.001)
    elif isinstance(value, str) and "->" in value:
        for match in _GROUP.finditer(value):
            start, end = match.span()
            changed = f"{value[:start]}({match[2]} {match[1]}{value[end:]}"
            yield "swap", node, partial(_set, node, value=changed)


_RULES: dict[Any, Callable[[Any], Iterator[Change]]] = {
    ast.Return: _of_return,
    ast.BinOp: _of_operation,
    ast.UnaryOp: _of_minus,
    ast.AugAssign: _of_addition,
    ast.Call: _of_call,
    ast.Subscript: _of_index,
    ast.Compare: _of_comparison,
    ast.Tuple | ast.List: _of_list,
    ast.Constant: _of_constant,
}


def _swaps(node: ast.AST, values: list[ast.expr], last: int | None = None) -> Iterator[Change]:
    for index, (first, second) in list(enumerate(pairwise(values)))[:last]:
        alike = type(first) is type(second) or not isinstance(first, ast.Constant)
        starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
        if alike and not starred and ast.dump(first) != ast.dump(second):
            exchanged = slice(index, index + 2), [second, first]
            yield "swap", node, partial(values.__setitem__, *exchanged)


def _axes(value: ast.expr, shown: ast.AST) -> Iterator[Change]:
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            yield "axis", shown, partial(_set, node, value=node.value + 1)


def _off_by_one(value: ast.expr, shown: ast.AST) -> Iterator[Change]:
    if isinstance(value, ast.UnaryOp):
        value = value.operand
    for node in value.elts if isinstance(value, ast.Tuple | ast.List) else [value]:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            yield "off by one", shown, partial(_set, node, value=node.value + 1)


def _scaled(value: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(SCALED, ast.Load()), [value], [])


def _opposite(operator: ast.operator) -> ast.operator:
    return ast.Sub() if isinstance(operator, ast.Add) else ast.Add()


def _set(node: ast.AST, **fields: object) -> None:
    for name, value in fields.items():
        setattr(node, name, value)
