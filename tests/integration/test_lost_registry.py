"""A registry that was lost is made again from the records in the object store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny.registry import new_version, register
from typer.testing import CliRunner

from kinetoscope.cli.app import app
from kinetoscope.core.errors import CorruptError
from kinetoscope.core.settings import workspace
from kinetoscope.inference.lost_versions import Rebuilt, rebuild
from kinetoscope.storage.open import open_store
from kinetoscope.storage.store import ObjectStore
from kinetoscope.tracking.registry import ModelRegistry
from kinetoscope.tracking.tracker import Tracker
from kinetoscope.tracking.version_records import record_keys
from kinetoscope.tracking.versions import ModelVersion

# Of MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def kino(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.stderr
    return result.stderr if code else json.loads(result.stdout)


def own_store() -> ObjectStore:
    return open_store(workspace().store_uri)


def own_registry() -> ModelRegistry:
    return ModelRegistry(workspace().tracking_uri)


@pytest.fixture
def lose_database(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Return what loses the database, and tells where it was.

    The workspace moves, too: MLflow keeps a database of this process open under its name.
    """

    def lose() -> Path:
        old = workspace().root
        new = old.with_name(f"{old.name}-again")
        new.mkdir()
        (old / "objects").rename(new / "objects")
        monkeypatch.setenv("KINO_WORKSPACE", str(new))
        return old / "mlflow.db"

    return lose


def versions(name: str = "toy") -> dict[str, ModelVersion]:
    return {version.version: version for version in own_registry().versions(name)}


def facts(version: ModelVersion) -> dict[str, Any]:
    return version.model_dump(exclude={"aliases", "source"})


@pytest.fixture
def three(tmp_path: Path) -> dict[str, ModelVersion]:
    """Return three versions by number; the second one's bundle is its own."""
    for run, fps in (("one", 8.0), ("two", 9.0), ("three", 8.0)):
        register(new_version(tmp_path, run=run, fps=fps))
    own_registry().promote("toy/2", own_store())
    return versions()


def test_all_versions_come_back_with_numbers_tags_scores_and_dates(
    three: dict[str, ModelVersion], lose_database: Callable[[], Path]
) -> None:
    lose_database()
    told = kino("models", "rebuild")
    assert told["made"] == {f"toy/{number}": f"toy/{number}" for number in "123"}
    assert told["without_champion"] == {"toy": "toy/3"}
    back = versions()
    assert {n: facts(version) for n, version in back.items()} == {
        n: facts(version) for n, version in three.items()
    }
    assert [back[number].aliases for number in "123"] == [(), (), ("candidate",)]
    assert kino("generate", "a dog", "--out", str(workspace().root))["model"] == "toy/3"

    own_registry().promote("toy/2", own_store())
    before = versions()
    assert not any(kino("models", "rebuild").values())
    assert versions() == before


def test_an_empty_registry_beside_records_says_what_to_do(
    three: dict[str, ModelVersion], lose_database: Callable[[], Path]
) -> None:
    lose_database()
    for arguments in (["generate", "a dog"], ["models", "show", "toy"]):
        assert "hint: the object store has 3 records" in kino(*arguments, code=2)
    listed = CliRunner().invoke(app, ["models", "ls"])
    assert "`kino models rebuild`" in listed.stderr
    assert listed.stdout == "no models yet\n"
    told = CliRunner().invoke(app, ["models", "rebuild"]).stdout.splitlines()
    assert told[:3] == [f"toy/{number} is back" for number in sorted(three)]
    assert told[3].endswith("kino models promote toy/3")
    assert CliRunner().invoke(app, ["models", "ls"]).stderr == ""


def test_versions_without_their_weights_are_told_and_passed_over(
    three: dict[str, ModelVersion], lose_database: Callable[[], Path]
) -> None:
    lose_database()
    store, weights = own_store(), f"{three['2'].bundle_key}/dit.safetensors"
    whole = store.get_bytes(weights)
    store.put_bytes(weights, b"overwritten")
    store.put_bytes("registry/toy/broken.json", b"{")
    told = rebuild(own_registry(), store)
    # Version 3 keeps its number: a version with number 2 was made and deleted for it.
    assert list(told.made) == ["toy/1", "toy/3"]
    assert "dit.safetensors does not match" in told.passed_over["toy/2"]
    assert "broken.json is damaged" in told.passed_over["registry/toy/broken.json"]
    assert rebuild(own_registry(), store) == Rebuilt(passed_over=told.passed_over)
    store.put_bytes(weights, whole)
    assert rebuild(own_registry(), store).made == {"toy/4": "toy/2"}

    lose_database()
    store = own_store()
    store.delete_prefix(three["1"].bundle_key)
    told = rebuild(own_registry(), store)
    assert list(told.made) == ["toy/2"]
    assert "no model bundle at" in told.passed_over["toy/1"]


def test_a_version_that_was_deleted_stays_deleted_unless_asked_for(
    three: dict[str, ModelVersion],
) -> None:
    registry = own_registry()
    for number in ("1", "3"):  # one below and one above what is left
        registry._client.delete_model_version("toy", number)
    assert rebuild(registry, own_store()) == Rebuilt(deleted=["toy/1", "toy/3"])
    told = rebuild(registry, own_store(), deleted_too=True)
    assert told.made == {"toy/4": "toy/1", "toy/5": "toy/3"}
    back = versions()
    assert list(back) == ["2", "4", "5"]
    assert back["5"].tags == three["3"].tags
    assert back["2"].aliases == ("champion",)
    assert not told.without_champion
    assert rebuild(registry, own_store(), deleted_too=True) == Rebuilt()


def test_versions_of_before_a_new_registry_come_beside_those_of_after(
    three: dict[str, ModelVersion], tmp_path: Path, lose_database: Callable[[], Path]
) -> None:
    lose_database()
    assert register(new_version(tmp_path, run="four")).version == "1"
    told = rebuild(own_registry(), own_store())
    assert told.made == {"toy/2": "toy/2", "toy/3": "toy/3", "toy/4": "toy/1"}
    back = versions()
    assert [back[n].tags["run"] for n in "1234"] == ["four", "two", "three", "one"]
    assert back["1"].aliases == ("candidate",)
    assert len(record_keys(own_store())) == len(three) + 1
    assert rebuild(own_registry(), own_store()) == Rebuilt()


def test_a_registration_that_was_cut_short_is_mended_by_the_next(
    tmp_path: Path, lose_database: Callable[[], Path]
) -> None:
    new = new_version(tmp_path)
    first = register(new)
    store = own_store()
    (key,) = record_keys(store)
    record = store.get_bytes(key)
    # MLflow had the version, the store not yet the record.
    store.delete(key)
    assert register(new) == first
    assert store.get_bytes(key) == record
    # The store has the record, MLflow lost the version.
    lose_database()
    store = own_store()
    again = register(new)
    assert facts(again) | {"created_at": 0} == facts(first) | {"created_at": 0}
    assert record_keys(store) == [key]
    assert rebuild(own_registry(), store) == Rebuilt()


def test_a_version_that_a_run_made_names_the_run_where_mlflow_has_it(tmp_path: Path) -> None:
    uri = workspace().tracking_uri
    run = Tracker(uri, workspace().artifacts_path).open_run("raaaaaaa", name="n")
    register(new_version(tmp_path, name="kept").model_copy(update={"tracked_run": run}))
    register(new_version(tmp_path, name="gone").model_copy(update={"tracked_run": "0" * 32}))
    registry = own_registry()
    for name in ("kept", "gone"):
        registry._client.delete_registered_model(name)
    # A model that was deleted as a whole leaves no trace: it is taken for lost.
    assert set(rebuild(registry, own_store()).made) == {"kept/1", "gone/1"}
    assert registry._client.get_model_version("kept", "1").run_id == run
    assert not registry._client.get_model_version("gone", "1").run_id


@pytest.mark.parametrize("damage", ["text", "cut", "header"])
def test_a_damaged_database_is_told_in_one_line_and_moved_away_by_the_user(
    three: dict[str, ModelVersion], lose_database: Callable[[], Path], damage: str
) -> None:
    whole = lose_database().read_bytes()
    path = workspace().root / "mlflow.db"
    flipped = bytes(byte ^ 0xFF for byte in whole[:32]) + whole[32:]
    path.write_bytes({"text": b"?" * 5000, "cut": whole[:9000], "header": flipped}[damage])
    error = kino("models", "ls", code=1)
    assert error.startswith(f"error: MLflow's database {path} is damaged: ")
    assert "kino models rebuild" in error
    assert len(error.splitlines()) == 2
    with pytest.raises(CorruptError):
        Tracker(workspace().tracking_uri, workspace().artifacts_path)
    path.rename(path.with_name("damaged.db"))
    assert len(kino("models", "rebuild")["made"]) == len(three)
