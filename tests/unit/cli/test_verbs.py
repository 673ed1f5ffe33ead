"""Every verb says what it does; wrong use ends with two lines and the right code."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.errors import ConfigError

runner = CliRunner()


def _verbs(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [path]
    return [verb for name, child in children.items() for verb in _verbs(child, (*path, name))]


@pytest.mark.parametrize("verb", _verbs(get_command(app)), ids=" ".join)
def test_the_help_of_a_verb_has_an_example_of_it(verb: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*verb, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: kino {' '.join(verb)}" in result.stdout


def test_the_issue_s_verbs_are_there() -> None:
    wanted = {
        *("run", "ls", "show", "status", "logs", "resume", "stop", "rm", "compile", "generate"),
        *("models ls", "models show", "models promote", "data synth", "data prepare"),
        *("data report", "recipes", "config show", "config schema", "doctor"),
        *(f"config profiles {verb}" for verb in ("list", "show", "add", "use", "rm")),
    }
    assert wanted <= {" ".join(verb) for verb in _verbs(get_command(app))}


def test_the_version_is_the_installed_package_s() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"kinetoscope {version('kinetoscope')}\n"


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["dance"], "error: no such command 'dance'", "hint: kino --help"),
        (["run"], "error: missing option '--videos'", "hint: kino run --help"),
        (["ls", "--jsno"], "error: no such option: --jsno", "hint: kino ls --help"),
        (["show", "rzzz"], "error: there is no run 'rzzz'", "hint: start one with kino run"),
        (["config", "show", "huge"], "error: there is no recipe 'huge'", "hint: recipes are"),
        (["data", "synth", "--size", "33"], "error: size_px=33", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_ends_with_error_and_hint(arguments: list[str], error: str, hint: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert error in result.stderr
    assert hint in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_debug_shows_where_an_error_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_DEBUG", "1")
    result = runner.invoke(app, ["config", "show", "tiny", "--set", "nonsense"])
    assert isinstance(result.exception, ConfigError)


def test_without_arguments_the_help_is_shown() -> None:
    result = runner.invoke(app, [])
    assert result.exit_code == 2
    assert "error:" not in result.stderr


def test_run_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = runner.invoke(app, ["run", "--recipe", "smoke", "--videos", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "is not a directory of videos" in result.stderr


def test_run_refuses_a_folder_without_videos_before_it_writes_anything(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "notes.md").write_text("no video")
    result = runner.invoke(app, ["run", "--recipe", "smoke", "--videos", str(tmp_path / "videos")])
    assert result.exit_code == 2
    assert "no video in" in result.stderr
    assert ".mp4" in result.stderr
    assert not (tmp_path / "workspace").exists()


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    arguments = ["run", "--recipe", "smoke", "--videos", str(tmp_path), "--set", "sede=3"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "sede: unknown key; did you mean 'seed'?" in result.stderr


def test_config_show_tells_each_value_s_origin() -> None:
    result = runner.invoke(app, ["config", "show", "tiny", "--set", "seed=7", "--json"])
    told = json.loads(result.stdout)
    assert told["config"]["seed"] == 7
    assert told["origins"]["seed"] == "--set"
    assert told["origins"]["name"] == "tiny"


def test_the_schema_is_json_schema() -> None:
    schema = json.loads(runner.invoke(app, ["config", "schema"]).stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "models" in schema["properties"]


def test_recipes_are_listed_with_what_they_are() -> None:
    told = json.loads(runner.invoke(app, ["recipes", "--json"]).stdout)
    assert {"tiny", "smoke", "open-sora-1.2"} <= {row["name"] for row in told}
    assert all(row["summary"] for row in told)


def test_the_doctor_finds_this_environment_fit(tmp_path: Path) -> None:
    result = runner.invoke(app, ["doctor", "--json"])
    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {row["check"] for row in told} >= {"python", "torch", "disk", "workspace", "cores"}
    assert not any(row["state"] == "bad" for row in told)
    assert list(tmp_path.iterdir()) == []


def test_synth_then_prepare_makes_a_clip_table_and_a_report(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "prepared"
    made = runner.invoke(app, ["data", "synth", "--out", str(videos), "--clips", "12"])
    assert made.exit_code == 0, made.stderr
    (videos / "broken.mp4").write_text("no video at all")
    arguments = ["data", "prepare", str(videos), "--out", str(out), "--recipe", "smoke", "--json"]
    result = runner.invoke(app, [*arguments, "--set", "prepare_data.num_workers=1"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["num_train"] + told["num_heldout"] == 12
    assert [row["path"] for row in told["quarantine"]] == ["broken.mp4"]
    assert Path(told["report"]).is_file()


def test_what_prepare_wrote_is_no_video_and_no_caption_the_next_time(tmp_path: Path) -> None:
    runner.invoke(app, ["data", "synth", "--out", str(tmp_path), "--clips", "8"])
    arguments = ["data", "prepare", str(tmp_path), "--out", str(tmp_path / "out")]
    arguments += ["--recipe", "smoke", "--set", "prepare_data.num_workers=1"]
    first, second = (json.loads(runner.invoke(app, [*arguments, "--json"]).stdout) for _ in "12")
    assert second["videos_digest"] == first["videos_digest"]
    assert (first["num_left_out"], second["num_left_out"]) == (0, 2)
    assert "left out: 2 folder(s)" in Path(second["report"]).read_text()
    assert "left out: 2 folder(s)" in runner.invoke(app, arguments).stdout
