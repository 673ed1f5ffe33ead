"""What others named reaches the terminal as text alone, and scripts exactly."""

from __future__ import annotations

import json

import pytest
from tiny.runs import make_run
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.settings import tracking_uri, workspace
from kinetoscope.runs.report import finish_start
from kinetoscope.storage.open import open_store
from kinetoscope.tracking.database import connect

runner = CliRunner()
EVIL = "a\x1b[2J\a\rb\nrzzzzzzz (fine): succeeded\x9b1A\u202e\u200b"
SHOWN = r"a\x1b[2J\x07\rb\nrzzzzzzz (fine): succeeded\x9b1A\u202e\u200b"
VERBS = [["show"], ["status"], ["ls"], ["data", "report"]]


def _stdout(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _make(text: str) -> None:
    row = {"path": f"{text}.mp4", "reason": text, "detail": text}
    make_run("raaaaaaa", name=text, reason=text, quarantine=[row])


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_names_and_reasons_forge_nothing(verb: list[str]) -> None:
    _make(EVIL)
    shown = _stdout(*verb)
    assert SHOWN in shown
    assert all(char.isprintable() for char in shown.replace("\n", ""))
    _make("a")
    assert len(shown.splitlines()) == len(_stdout(*verb).splitlines())


def test_json_has_the_names_exactly() -> None:
    row = {"path": f"{EVIL}.mp4", "reason": "hostile", "detail": EVIL}
    make_run("raaaaaaa", quarantine=[row])
    for verb in (["show"], ["data", "report"]):
        assert json.loads(_stdout(*verb, "--json"))["quarantine"] == [row]


def test_a_log_shows_its_lines_and_no_escapes() -> None:
    run = make_run("raaaaaaa")
    record = run.step("train_spatial_vae")
    assert record is not None
    store = open_store(run.step_uri(record))
    store.put_bytes(
        "attempts/000001/logs/rank-0.log",
        b"step 1\nclip \x1b]0;title\x07 \xff\xe7\x8c\xab\nstep 2\n",
    )
    text = _stdout("logs", "last", "train_spatial_vae")
    assert "step 1\nclip \\x1b]0;title\\x07 \\xff\u732b\nstep 2\n" in text


def test_an_error_shows_what_was_given_in_its_own_line() -> None:
    result = runner.invoke(app, ["run", "--videos", "none\nhint: \x1b[31mdo this"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert r"none\nhint: \x1b[31mdo this is not a directory" in result.stderr


def test_models_and_their_tags_forge_nothing() -> None:
    # As another program registered it.
    client = connect(tracking_uri())
    client.create_registered_model("m\x1b[2Jm")
    client.create_model_version("m\x1b[2Jm", source="file:///b\x1b", tags={"t": EVIL})
    assert r"m\x1b[2Jm/1" in _stdout("models", "ls")
    shown = _stdout("models", "show", "m\x1b[2Jm")
    assert SHOWN in shown
    assert all(char.isprintable() for char in shown.replace("\n", ""))


def test_five_thousand_bad_files_are_counted_and_ten_are_shown() -> None:
    rows = [{"path": f"{i}.mp4", "reason": "unreadable", "detail": "x"} for i in range(5000)]
    make_run("raaaaaaa", quarantine=rows)
    listed = workspace().root / "objects/steps/prepare_data/aa/outputs/quarantine/quarantine.jsonl"
    for verb in (["show"], ["data", "report"]):
        text = _stdout(*verb)
        assert "5000 files in quarantine (unreadable: 5000):" in text
        assert f"  and 4990 more: {listed}" in text
        assert text.count(".mp4: unreadable") == 10
        assert len(json.loads(_stdout(*verb, "--json"))["quarantine"]) == 5000


def test_no_reason_hides_the_others() -> None:
    rows = [{"path": f"{i}.mp4", "reason": "zero_length", "detail": "x"} for i in range(20_000)]
    rows += [{"path": f"c{i}.mp4", "reason": "truncated", "detail": "y"} for i in range(2)]
    rows.append({"path": "z.mp4", "reason": "hostile", "detail": "z"})
    make_run("raaaaaaa", quarantine=rows)
    for verb in (["show"], ["data", "report"]):
        lines = _stdout(*verb).splitlines()
        head = "20003 files in quarantine (zero_length: 20000, truncated: 2, hostile: 1):"
        at = lines.index(head)
        told = [line.strip().split(":")[0] for line in lines[at + 1 : at + 11]]
        expected = ["0.mp4", "c0.mp4", "z.mp4", "1.mp4", "c1.mp4", "2.mp4"]
        assert told[:6] == expected
        assert lines[at + 11].startswith("  and 19993 more: ")
        assert len(lines) < at + 16


def test_a_page_shows_text_of_others_as_text() -> None:
    run = make_run("raaaaaaa", name="<b>\x1b[2J\u202e", reason="a\u202eb")
    finish_start(run, run.own_start())
    page = run.store.get_bytes("report.html").decode()
    assert r"&lt;b&gt;\x1b[2J\u202e" in page
    assert not {"\x1b", "\u202e"} & set(page)
