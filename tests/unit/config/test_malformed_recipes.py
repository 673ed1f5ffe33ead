"""Recipes that are wrong in one place: each is refused with file, line and key."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kinetoscope.config import load
from kinetoscope.config.load import list_recipes, load_config
from kinetoscope.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
GIVEN = Path(__file__).with_name("recipes")
NUM_RECIPES = 300

_KEY = re.compile(r"\b([a-z_]+): ")
_NUMBER = re.compile(r"\b([a-z_]+): (-?[0-9][0-9.e-]*)(?=[,}\n])")
_INNER = re.compile(r"\{([a-z_]+): [^,{}\[\]]+, ")


class Wrong(NamedTuple):
    """A recipe with one fault, and what the error must name."""

    data: bytes
    line: int
    key: str


def _replaced(text: str, found: re.Match[str], key: str, new: str) -> Wrong:
    changed = text[: found.start()] + new + text[found.end() :]
    line = text.count("\n", 0, found.start()) + 1
    return Wrong(changed.encode("utf-8", "surrogateescape"), line, key)


def _any(draw: random.Random, form: re.Pattern[str], text: str) -> re.Match[str]:
    keys = [m for m in form.finditer(text) if m[1] not in ("kind", "extends")]
    return draw.choice(
        [m for m in keys if "#" not in text[text.rfind("\n", 0, m.start()) + 1 : m.start()]]
    )


def _value(*values: str) -> Callable[[random.Random, str], Wrong]:
    """Return a change of a number to something else."""

    def change(draw: random.Random, text: str) -> Wrong:
        found = _any(draw, _NUMBER, text)
        return _replaced(text, found, found[1], f"{found[1]}: {draw.choice(values)}")

    return change


def _number_as_text(draw: random.Random, text: str) -> Wrong:
    found = _any(draw, _NUMBER, text)
    return _replaced(text, found, found[1], f'{found[1]}: "{found[2]}"')


def _unknown_key(draw: random.Random, text: str) -> Wrong:
    found = _any(draw, _KEY, text)
    key = found[1] + draw.choice(["x", "_", "_px"])
    return _replaced(text, found, key, f"{key}: ")


def _key_twice_within(draw: random.Random, text: str) -> Wrong:
    found = _any(draw, _INNER, text)
    return _replaced(text, found, found[1], "{" + found[0][1:] * 2)


def _key_twice_at_the_end(draw: random.Random, text: str) -> Wrong:
    key = draw.choice(re.findall(r"^([a-z_]+):", text, re.MULTILINE))
    return Wrong(f"{text}{key}: {{}}\n".encode(), text.count("\n") + 1, key)


def _broken(draw: random.Random, text: str) -> Wrong:
    found = _any(draw, _NUMBER, text)
    bad = draw.choice(["@x", "%x", "`x`", "1: 2: 3", "&"])
    return _replaced(text, found, found[1], f"{found[1]}: {bad}")


def _encoding(draw: random.Random, text: str) -> Wrong:
    found = _any(draw, _NUMBER, text)
    bad = draw.choice(["caf\udce9", "\udcff\udcfe", "x\0y", "\ufeff", "a\u2028b", "\x1b[0m"])
    return _replaced(text, found, found[1], f"{found[1]}: {bad}")


def _not_there(draw: random.Random, text: str) -> Wrong:
    """Change an item that the list of the recipe beneath does not have."""
    del text
    key = draw.choice(["train_vae", "train_dit"])
    return Wrong(f"extends: tiny\n{key}:\n  7: {{loop: {{num_steps: 2}}}}\n".encode(), 3, key)


def _another_sample_size(draw: random.Random, text: str) -> Wrong:
    del text
    size = draw.choice(["{height: 64, width: 64}", "{num_frames: 33}", "{width: 16}"])
    data = f"extends: smoke\nname: x\nmodels: {{sample_size: {size}}}\n"
    return Wrong(data.encode(), 3, "sample_size")


_ODD = (".inf", "-.inf", ".nan", "1_0", "0x1F", "012", "1:30", "no", "1e999", str(10**23))
_LEVELS = (f"&b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 7))
_BOMB = f"[&b0 [1], {', '.join(_LEVELS)}]"

KINDS: dict[str, Callable[[random.Random, str], Wrong]] = {
    "key twice within": _key_twice_within,
    "key twice at the end": _key_twice_at_the_end,
    "number as text": _number_as_text,
    "wrong type": _value("many", "[1]", "{a: 1}", "true", "'1 2'", "null_"),
    "odd scalar": _value(*_ODD, "2024-06-17", "2024-06-17 10:00:00"),
    "unknown key": _unknown_key,
    "broken": _broken,
    "encoding": _encoding,
    "tag": _value("!!float 1", "!!binary aa==", "!!set {x}", "!x 1", "!!python/name:os.system"),
    "alias": _value("&x [*x]", "*nothing", "&x {a: *x}", _BOMB),
    "deep": _value("[" * 100 + "]" * 100, "{a: " * 100 + "1" + "}" * 100),
    "item not there": _not_there,
    "sample size": _another_sample_size,
}


def _wrong_recipe(number: int) -> tuple[str, Wrong]:
    draw = random.Random(number)  # noqa: S311 - nothing secret
    kind = list(KINDS)[number % len(KINDS)]
    recipe = draw.choice(list_recipes())
    text = (Path(load.__file__).parent / "recipes" / f"{recipe}.yaml").read_text()
    return kind, KINDS[kind](draw, text)


@pytest.mark.parametrize("number", range(NUM_RECIPES))
def test_a_recipe_with_one_fault_is_refused_with_file_line_and_key(
    number: int, tmp_path: Path
) -> None:
    kind, wrong = _wrong_recipe(number)
    path = tmp_path / "wrong.yaml"
    path.write_bytes(wrong.data)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    message = caught.value.message
    assert f"{path}, line {wrong.line}" in message, kind
    assert re.search(rf"\b{wrong.key}\b", message), kind
    assert len(message) < 6000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("date", "line 2: name: the value '2024-06-17' is a date"),
        ("inf", "line 3: prepare_data.limits.max_duration_seconds: the value '.inf' is no finite"),
        ("latin1", "line 2: no UTF-8: byte 0xe9, in 'name: caf"),
        ("res256", 'line 3: train_dit.0.plan.buckets.0.resolution: must be text: .* as "256"'),
        ("twice", "line 4: prepare_data: this key is given twice, first in line 2"),
    ],
)
def test_recipes_that_were_read_wrongly_are_refused(name: str, told: str) -> None:
    path = GIVEN / f"{name}.yaml"
    with pytest.raises(ConfigError, match=f"{path}, {told}"):
        load_config(str(path))


@pytest.mark.parametrize(
    "rows",
    [
        [f"key_{n}: 1" for n in range(4_900)],
        ["prepare_data:", "  limits:", *(f"    key_{n}: 1" for n in range(4_900))],
        ["train_vae:", *["- {objective: pixels, plan: 1, loop: {num_steps: a}}"] * 800],
        ["train_vae:", *["- {}"] * 2_400],
        ["register_model:", "  gates:", *["  - {metric: 1}"] * 2_400],
    ],
)
def test_of_thousands_of_faults_ten_are_told(rows: list[str], tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join(["extends: smoke", *rows]))
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    *told, rest = caught.value.message.splitlines()
    assert len(told) == 1 + 10
    assert all(f"{path}, line " in line for line in told[1:])
    assert re.fullmatch(r"  and \d,?\d{3,4} more|  and \d+,\d+ more", rest)


@pytest.mark.parametrize("name", ["twice", "res256"])
def test_every_verb_tells_the_same_and_creates_nothing(name: str, tmp_path: Path) -> None:
    recipe = str(GIVEN / f"{name}.yaml")
    (tmp_path / "videos").mkdir()
    verbs = [
        ["config", "show", recipe],
        ["run", "--recipe", recipe, "--videos", "videos"],
        ["data", "prepare", "videos", "--out", "prepared", "--recipe", recipe],
        ["compile", "--recipe", recipe, "--out", "pipelines/pipeline.yaml"],
    ]
    told = set()
    for verb in verbs:
        done = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *verb],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "KINO_WORKSPACE": str(tmp_path / "workspace")},
        )
        assert done.returncode == 2, done.stderr
        told.add(done.stdout + done.stderr)
    assert len(told) == 1
    assert f"{recipe}, line " in told.pop()
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
