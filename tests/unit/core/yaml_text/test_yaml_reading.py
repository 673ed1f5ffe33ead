"""What is read of YAML, and what is refused with file, line and key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.yaml_text import composer
from kinetoscope.core.yaml_text.nodes import plain
from kinetoscope.core.yaml_text.read import parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(params=[yaml.CSafeLoader, yaml.SafeLoader], ids=["libyaml", "python"])
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composer, "_LOADER", request.param)


both_parsers = pytest.mark.usefixtures("_parser")


def _bomb(levels: int) -> str:
    rows = ["a0: &a0 [1]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(rows)


def _chain(length: int) -> str:
    return "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, length))])


@both_parsers
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr: 1e-3", {"lr": 0.001}),
        ("[1e3, 1., .5, -2.5E+1, +4, -0, 0]", [1000.0, 1.0, 0.5, -25.0, 4, 0, 0]),
        ("[true, False, TRUE, null, ~, Null]", [True, False, True, None, None, None]),
        ("a:\nb: ''", {"a": None, "b": ""}),
        ("['1', \"no\", '2024-06-17']", ["1", "no", "2024-06-17"]),
        ("[nobody, onto, offer, y, n, 1.2.3, 9:99, 240p, -, x_1]",
         ["nobody", "onto", "offer", "y", "n", "1.2.3", "9:99", "240p", "-", "x_1"]),
        ("a: >\n  hello\n  there\n", {"a": "hello there\n"}),
        ("0: {1: x}", {"0": {"1": "x"}}),
        ("a: &n {k: 1, m: 2}\nb: {k: 3, <<: *n}", {"a": {"k": 1, "m": 2}, "b": {"k": 3, "m": 2}}),
        ("a: &a {k: 1}\nb: &b {k: 2, m: 2}\nc: {<<: [*a, *b]}",
         {"a": {"k": 1}, "b": {"k": 2, "m": 2}, "c": {"k": 1, "m": 2}}),
        ('"<<": 1', {"<<": 1}),
        ("", None),
        ("# nothing\n", None),
        ("---\na: 1\n...\n", {"a": 1}),
        ("a: caf\u00e9 \U0001f600", {"a": "caf\u00e9 \U0001f600"}),
        (f"a: {2**63 - 1}", {"a": 2**63 - 1}),
    ],
)  # fmt: skip
def test_a_value_is_read(text: str, value: Any) -> None:
    read = plain(parse_yaml(text, "it"))
    assert read == value
    assert repr(read) == repr(value)


@both_parsers
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a: this key is given twice, first in line 1"),
        ("a: {b: 1, c: 2, b: 3}", "line 1: a.b: this key is given twice"),
        ("'a': 1\n? a\n: 3", "line 2: a: this key is given twice"),
        ("1: a\n'1': b", "line 2: 1: this key is given twice"),
        ("a: &n {k: 1}\nb: {<<: *n, <<: *n}", "line 2: b: '<<' is given twice"),
        ("a: {<<: [1]}", "line 1: a.<<: '<<' takes a mapping"),
        ("a: 2024-06-17", "line 1: a: the value '2024-06-17' is a date"),
        ("a: 2001-12-14t21:59:43-05:00", "a: the value '2001-12-14t21:59:43-05:00' is a date"),
        ("a: .inf", "a: the value '.inf' is no finite number"),
        ("a: [1, -.INF]", "a.1: the value '-.INF' is no finite number"),
        ("a: .NaN", "a: the value '.NaN' is no finite number"),
        ("a: 1e999", "a: the value '1e999' is too large"),
        ("a: 1e-999", "a: the value '1e-999' is too small"),
        (f"a: {10**23}", f"a: the value '{10**23}' is too large"),
        (f"a: {2**63}", "is too large"),
        (f"a: -{'9' * 5000}", "is too large"),
        ("a: 012", "a: the value '012' is a number of another base than 10"),
        ("a: 0x1F", "another base"),
        ("a: 0o17", "another base"),
        ("a: 1:30", "a: the value '1:30' is a number to the base 60"),
        ("a: 1_000", "a: the value '1_000' is a number in some versions"),
        ("a: no", "a: the value 'no' is true or false in some versions"),
        ("a: [On]", "a.0: the value 'On' is true or false in some versions"),
        ("yes: 1", "line 1: the key 'yes' is true or false in some versions"),
        ("true: 1", "the key 'true' is no text"),
        ("1.5: 1", "the key '1.5' is no text"),
        ("-1: 1", "the key '-1' is no text"),
        ("? [a]\n: 1", "a key is text, no mapping, list or alias"),
        ("a: !!set {x}", "a: the tag 'tag:yaml.org,2002:set' is not read"),
        ("a: !!binary aGk=", "a: the tag 'tag:yaml.org,2002:binary' is not read"),
        ("a: !!python/object/apply:os.getcwd []", "a: the tag 'tag:yaml.org,2002:python/"),
        ("a: ! 17", "a: the tag '!' is not read"),
        ("a: &x [*x]", "a.0: the alias 'x' stands in its own value"),
        ("a: &x {b: [*x]}", "a.b.0: the alias 'x' stands in its own value"),
        ("a: *x", "a: the alias 'x' has no anchor above it"),
        ("a: &x 1\nb: &x 2", "line 2: b: the anchor 'x' is given twice"),
        (_bomb(40), "there are more than 5,000 values"),
        (_chain(100), "line 64: a63.0: this is nested more than 64 deep"),
        ("a: " + "[" * 5000, "is nested more than 64 deep"),
        ("a: " + "{b: " * 5000, "is nested more than 64 deep"),
        ("\n".join(f"k{n}: 1" for n in range(40_000)), "line 5000: k4999: there are more than"),
        ("a: 1\n---\nb: 2", "line 2: a second document begins here"),
        ("a: b: c", "line 1: this is not valid YAML: mapping values are not allowed"),
        ("a: [1, 2\n", "a.2: this is not valid YAML"),
        ("a: 'b\n", "line 2: a: this is not valid YAML"),
        ("a: @b", "line 1: a: this is not valid YAML"),
        ("a:\n\t- b", "line 2: a: this is not valid YAML: a tab can't stand here"),
        ("a:\n  b: [1]\n\tc: 2", "line 3: a: this is not valid YAML: a tab can't stand here"),
        ("a: 1\nseed = 3\nb: 2", "line 2: this is not valid YAML: could not find expected ':'"),
        ("a: 1\nseed:3\n", "line 2: this is not valid YAML: could not find expected ':'"),
        ("a: 1\0", "line 1: a NUL is not allowed"),
        ('a: "\\0"', "a: text can hold no NUL"),
        ("a: 1\nb: x\u2028y", "line 2: the character U+2028 is not allowed, in 'b: x"),
        (b"\xef\xbb\xbfa: 1", "line 1: a byte order mark is not allowed"),
        (b"a: 1\nname: caf\xe9\n", "line 2: no UTF-8: byte 0xe9, in 'name: caf\u00e9'"),
        (b"a: 1\r\nname: caf\xe9\n", "line 2: no UTF-8"),
        ("a: 1\n".encode("utf-16"), "line 1: no UTF-8"),
        (b"a: " + b"x" * (1 << 20), "it has more than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_what_is_lost_or_read_in_two_ways_is_refused(text: str | bytes, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "it")
    assert caught.value.message.startswith("it")
    assert told in caught.value.message


def test_half_of_a_character_is_refused() -> None:
    # The two parsers word it differently.
    with pytest.raises(ConfigError, match="it, line 1: a: "):
        parse_yaml('a: "\\ud800"', "it")


def test_values_know_their_lines() -> None:
    node = parse_yaml("a: &x\n  b: 1\nc:\n  - d\n  - {e: 2}\nf: *x\n", "it")
    lines = {key: inner.line for key, inner in node.value.items()}
    assert lines == {"a": 1, "c": 3, "f": 6}
    assert node.value["a"].value["b"].place == "it, line 2"
    assert [item.line for item in node.value["c"].value] == [4, 5]
    assert node.value["f"].value["b"].line == 2, "where the value stands"


@pytest.mark.parametrize(
    "text",
    [
        *("a: 1\t# of a column\nb: [x]", "#\tof a column\na: 1\t\nb: [x]", "a:\t1\nb:\t[x]"),
        '{\n\t"a": 1,\n\t"b": [\n\t\t"x"\n\t]\n}\n',
    ],
)
def test_tabs_may_stand_wherever_they_do_not_indent(text: str) -> None:
    assert plain(parse_yaml(text, "it")) == {"a": 1, "b": ["x"]}


def test_objects_of_a_cluster_have_octal_modes_and_scripts_with_tabs() -> None:
    text = "mode: 0440\nscript: |\n  if true; then\n  \techo\n"
    read = plain(parse_yaml(text, "it", kubernetes=True))
    assert read == {"mode": 0o440, "script": "if true; then\n\techo\n"}


@pytest.mark.parametrize(
    "text",
    [
        *("a: hunter2: b", "hunter2: [", "a: !hunter2 x", "a: *hunter2", "hunter2: &b 1\nc: &b 2"),
        *("hunter2: 1\nhunter2: 2", "a: 'b'\n\tb: hunter2", b"a: hunter2\xff", "a: [hunter2: no"),
    ],
)
def test_errors_about_a_secret_text_repeat_nothing_of_it(text: str | bytes) -> None:
    with pytest.raises(ConfigError, match="it, line ") as caught:
        parse_yaml(text, "it", secret=True)
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path, tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is no file"):
            read_yaml(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "absent.yaml")


def _shipped() -> list[Path]:
    folders = ("platform/kinetoscope/config/recipes", "charts/kinetoscope")
    files = sorted(file for folder in folders for file in (ROOT / folder).glob("*.yaml"))
    return [*files, *sorted((ROOT / "charts/kinetoscope/ci").glob("*.yaml"))]


@pytest.mark.parametrize("path", _shipped(), ids=lambda path: path.name)
def test_the_yaml_that_we_ship_means_the_same_to_other_readers(path: Path) -> None:
    assert plain(read_yaml(path)) == yaml.safe_load(path.read_text())
