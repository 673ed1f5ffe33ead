"""`kino show` tells aliases from a copy beside the records, which what changes them makes anew."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tiny.runs import TOY_KEY, make_finished_run
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.settings import workspace
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.tracking.mirrored_aliases import MirroredAliases, mirror_aliases, read_aliases
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.versions import ModelVersion, NewVersion

# Of MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

COPY = "registry/toy/aliases"
PROMOTE = """
import sys
from kinetoscope.storage.open import open_store
from kinetoscope.tracking.registry import ModelRegistry
registry, store = ModelRegistry(sys.argv[1]), open_store(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in sys.argv[3:]:
    registry.promote(f"toy/{number}", store)
"""


def own_store() -> ObjectStore:
    return open_store(workspace().store_uri)


def own_registry() -> ModelRegistry:
    return ModelRegistry(workspace().tracking_uri)


def register(run: str = "one", bundle_key: str = TOY_KEY) -> ModelVersion:
    new = NewVersion(name="toy", bundle_key=bundle_key, bundle_digest="sha256:0", tags={"run": run})
    return own_registry().register_version(new, own_store())


def copied() -> MirroredAliases:
    found = read_aliases(own_store(), "toy")
    assert found is not None
    return found


def shown() -> dict[str, Any]:
    result = CliRunner().invoke(app, ["show", "--json"])
    assert result.exit_code == 0, result.stderr
    model: dict[str, Any] = json.loads(result.stdout)["model"]
    return model


def line() -> str:
    lines = CliRunner().invoke(app, ["show"]).stdout.splitlines()
    return next(text for text in lines if text.startswith("model "))


def kino(*arguments: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr


def test_what_changes_an_alias_copies_it_and_show_needs_no_database() -> None:
    make_finished_run("raaaaaaa")
    assert shown()["aliases"] == ["candidate"]
    assert shown()["aliases_at"] is None
    assert line() == "model   toy/1 (candidate, when it was registered)"

    register()
    register("two", bundle_key="models/toy/2")
    assert shown()["aliases"] == []
    assert line().startswith("model   toy/1 (no alias, as of 20")
    kino("models", "promote", "toy/1")
    (workspace().root / "mlflow.db").unlink()
    assert shown()["aliases"] == ["champion"]
    assert shown()["aliases_at"] == copied().mirrored_at
    assert "(champion, as of 20" in line()


def test_an_alias_that_mlflow_alone_knows_is_copied_with_the_next_change() -> None:
    make_finished_run("raaaaaaa")
    register()
    # As somebody does in MLflow's pages, and a promotion that was killed right after it.
    own_registry().set_alias("toy", "champion", "1")
    assert shown()["aliases"] == ["candidate"]
    register()
    assert shown()["aliases"] == ["candidate", "champion"]
    own_registry().set_alias("toy", "mine", "1")
    kino("models", "rebuild")
    assert shown()["aliases"] == ["candidate", "champion", "mine"]


def test_a_deleted_version_is_told_once_it_is_known() -> None:
    make_finished_run("raaaaaaa")
    register()
    register("two", bundle_key="models/toy/2")
    own_registry()._client.delete_model_version("toy", "1")
    kino("models", "rebuild")
    assert shown()["deleted"]
    assert line().startswith("model   toy/1 (not in the registry any more, as of 20")
    assert "kino generate" not in CliRunner().invoke(app, ["show"]).stdout


def test_another_registry_s_version_of_the_same_number_is_not_taken_for_the_run_s() -> None:
    make_finished_run("raaaaaaa")
    register(bundle_key="models/toy/another")
    assert shown()["deleted"]


def test_a_changed_copy_is_told_by_name_and_made_anew() -> None:
    make_finished_run("raaaaaaa")
    register()
    data = own_store().get_bytes(COPY)
    own_store().put_bytes(COPY, data.replace(b"candidate", b"champion"))
    result = CliRunner().invoke(app, ["show"])
    assert result.exit_code == 1
    assert f"{COPY} is damaged" in result.stderr
    assert "kino models rebuild writes it anew" in result.stderr
    kino("models", "rebuild")
    assert shown()["aliases"] == ["candidate"]


def test_after_processes_that_promoted_at_once_the_copy_is_what_mlflow_says() -> None:
    for number in range(4):
        register(str(number))
    store, uri = workspace().store_uri, workspace().tracking_uri
    orders = (["1", "2", "3", "4"] * 3, ["4", "3", "2", "1"] * 3, ["2", "4", "1", "3"] * 3)
    command = [sys.executable, "-c", PROMOTE, uri, store]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, *order], **pipes) for order in orders]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
        assert process.returncode == 0
    champion = own_registry().champion("toy")
    assert champion is not None
    assert copied().aliases == {"candidate": "4", "champion": champion.version}


def test_who_is_overtaken_between_his_look_and_his_copy_looks_again() -> None:
    store = own_store()
    first, second = (_version(alias) for alias in ("old", "new"))
    answers = iter([[first], [second], [second]])
    mirror_aliases(store, "toy", lambda: next(answers))
    assert copied().aliases == {"new": "1"}


def _version(alias: str) -> ModelVersion:
    facts = {"bundle_key": TOY_KEY, "bundle_digest": "sha256:0", "source": ""}
    return ModelVersion(name="toy", version="1", aliases=(alias,), **facts)
