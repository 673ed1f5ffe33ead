"""What no code of ours foresaw also ends with two lines and no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tiny.runs import make_run
from tiny.small_disk import small_disk
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.cli.failures import report
from kinetoscope.core.settings import workspace

runner = CliRunner()


def _lines(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(app, list(arguments))
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return result.exit_code, error, hint


def test_a_record_that_was_cut_short_is_named() -> None:
    run = make_run("raaaaaaa")
    Path(run.store.uri.removeprefix("file://"), "run.json").write_text('{"run_id": "raaa')
    code, error, hint = _lines("show", "raaaaaaa")
    assert code == 1
    assert "run.json is damaged: it is no JSON" in error
    assert "kino rm raaaaaaa" in hint


def test_a_list_that_was_cut_short_is_no_bug() -> None:
    run = make_run("raaaaaaa")
    listed = Path(run.store.uri.removeprefix("file://")).parents[1] / (
        "steps/prepare_data/aa/outputs/quarantine/quarantine.jsonl"
    )
    listed.write_text('{"path": "a')
    code, error, hint = _lines("show")
    assert code == 1
    assert "quarantine.jsonl is not what step prepare_data committed" in error
    assert "--fresh prepare_data" in hint


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe\x00", "odd.yaml, line 1: no UTF-8: byte 0xff"),
        (b"name: [\n", "odd.yaml, line 2: name.0: this is not valid YAML"),
        (
            b"extends: tiny\nname: 2020-01-01\n",
            "odd.yaml, line 2: name: the value '2020-01-01' is a date",
        ),
        (b"a: &x [*x]\n", "odd.yaml, line 1: a.0: the alias 'x' stands in its own value"),
    ],
)
def test_a_recipe_of_another_kind_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "odd.yaml").write_bytes(content)
    code, error, _ = _lines("config", "show", str(tmp_path / "odd.yaml"))
    assert code == 2
    assert told in error


def test_a_pipeline_is_written_to_yaml_alone(tmp_path: Path) -> None:
    code, error, _ = _lines("compile", "--recipe", "smoke", "--out", str(tmp_path))
    assert (code, error) == (2, f"error: {tmp_path} must end in .yaml")


def test_a_workspace_that_no_record_could_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINO_WORKSPACE", f"{tmp_path}/\udcff")
    code, error, _ = _lines("models", "ls")
    assert code == 2
    assert r"\udcff' has no UTF-8 path" in error


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "videos"
    code, error, hint = _lines("data", "synth", "--out", str(out), "--clips", "1")
    assert code == 1
    assert f"{out}: Not a directory" in error
    assert "who may use it" in hint


def test_a_broken_database_is_named_with_the_way_out() -> None:
    workspace().root.mkdir(parents=True)
    (workspace().root / "mlflow.db").write_bytes(b"no database at all" * 100)
    code, error, hint = _lines("models", "ls")
    assert code == 1
    assert "mlflow.db is damaged" in error
    assert "kino models rebuild" in hint


def test_a_full_disk_says_so_in_every_verb(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        code, error, hint = _lines("data", "synth", "--out", str(disk / "v"), "--clips", "2000")
    assert code == 74
    assert "is full: " in error
    assert "KINO_WORKSPACE" in hint


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("steps"), "error: KeyError: 'steps'; this is a bug\n"),
        (AssertionError(), "error: AssertionError; this is a bug\n"),
        (ValueError("a\nb"), "error: ValueError: a; this is a bug\n"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "error: Input/output error\n"),
    ],
    ids=repr,
)
def test_a_bug_is_called_one_and_says_how_to_see_more(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(told)
    assert "KINO_DEBUG=1" in shown
