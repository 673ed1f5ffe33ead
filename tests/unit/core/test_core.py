from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kinetoscope.core import code_version as versions
from kinetoscope.core.errors import ConfigError
from kinetoscope.core.hashing import canonical_json, digest_file, digest_json
from kinetoscope.core.ids import new_run_id
from kinetoscope.core.keys import chance, generator, random_key, uniform
from kinetoscope.core.settings import kubeconfig, profiles_path, tracking_uri, workspace
from kinetoscope.core.units import GIB, format_bytes, format_seconds
from kinetoscope.kube.profiles import Profiles, load_profiles, make_profile, save_profiles


def test_a_digest_ignores_the_order_of_keys_and_refuses_nan() -> None:
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 1.5})
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"a": float("nan")})


def test_a_file_has_the_digest_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_file(tmp_path / "f") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_keys_are_stable_and_tell_their_parts_apart() -> None:
    assert random_key("noise", 1, 2) == random_key("noise", 1, 2)
    different = {
        random_key("noise", 1, 2),
        random_key("noise", 12),
        random_key("noise", "1", 2),
        random_key("noise1", 2),
        random_key("noise", 2, 1),
    }
    assert len(different) == 5
    assert all(0 <= key < 2**63 for key in different)
    assert generator("a", 1).random() == generator("a", 1).random()


def test_counter_draws_depend_on_their_index_alone_and_are_uniform() -> None:
    key = random_key("test")
    draws = uniform(key, np.arange(100_000))
    assert np.array_equal(uniform(key, np.array([5, 3])), draws[[5, 3]])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    # chi-square with 19 degrees of freedom: 43.8 is its 99.9th percentile
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01
    assert not np.array_equal(uniform(key + 1, np.arange(10)), draws[:10])


def test_a_chance_is_a_uniform_draw_below_it() -> None:
    key, index = random_key("test"), np.arange(20_000)
    draws = uniform(key, index)
    least = draws.min()
    some = [draws[7], least, np.nextafter(least, 1), np.nextafter(least, 0), 0.3, 1e-300]
    for probability in [0.0, -1.0, 1.0, 2.0, 1 - 2**-53, *some]:
        np.testing.assert_array_equal(chance(key, index, probability), draws < probability)


def test_draws_are_the_same_in_another_process() -> None:
    code = "from kinetoscope.core.keys import *; print(random_key('a', 1), uniform(7, [3])[0])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"{random_key('a', 1)} {uniform(7, [3])[0]}\n"


def test_a_changed_line_changes_the_version_of_just_what_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "a": "def f():\n    from kinetoscope.b import g\n",
        "b": "from kinetoscope import c\n",
        "c": "x = 1\n",
        "d": "import kinetoscope.c\n",
        "e": "import json\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(versions, "_ROOT", tmp_path)
    names = [f"kinetoscope.{name}" for name in "abcde"]

    def all_versions() -> list[str]:
        versions._imports.cache_clear()
        return [versions.code_digest(name) for name in names]

    before = all_versions()
    assert len(set(before)) == 5
    (tmp_path / "c.py").write_text("x = 2\n")
    changed = [old != new for old, new in zip(before, all_versions(), strict=True)]
    assert changed == [True, True, True, True, False]
    # Data counts for what lies beside it.
    (tmp_path / "sizes.json").write_text("[1]")
    with_data = all_versions()
    (tmp_path / "sizes.json").write_text("[2]")
    assert all(old != new for old, new in zip(with_data, all_versions(), strict=True))
    with pytest.raises(ConfigError, match=r"kinetoscope\.zzz"):
        versions.code_digest("kinetoscope.zzz")


def test_a_distribution_s_code_counts_by_relative_imports_and_in_a_shared_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "one/acme_shared/plain/__init__.py": "from ._set_up import x\n",
        "one/acme_shared/plain/_set_up.py": "x = 1\n",
        "one/acme_shared/plain/model.py": "from . import layers\nfrom .. import elsewhere\n",
        "one/acme_shared/plain/layers.py": "from ..elsewhere.more import y\n",
        "two/acme_shared/elsewhere/__init__.py": "",
        "two/acme_shared/elsewhere/more.py": "y = 1\n",
        "two/acme_shared/elsewhere/other.py": "y = 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "one")
    monkeypatch.syspath_prepend(tmp_path / "two")
    assert versions.reachable_modules("acme_shared.plain.model") == {
        f"acme_shared.{name}"
        for name in (
            "plain",
            "plain._set_up",
            "plain.model",
            "plain.layers",
            "elsewhere",
            "elsewhere.more",
        )
    }


def test_run_ids_are_names_that_kubernetes_takes() -> None:
    ids = {new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"r[a-z0-9]{7}", name) for name in ids)


def test_sizes_and_times_read_well() -> None:
    assert format_bytes(3 * GIB // 2) == "1.5 GiB"
    assert format_bytes(2048) == "2.0 KiB"
    assert format_bytes(7) == "7 B"
    assert [format_seconds(s) for s in (0.42, 52, 192, 7500)] == ["0.4s", "52s", "3m 12s", "2h 05m"]


def test_the_environment_names_workspace_and_tracking(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KINO_WORKSPACE", str(tmp_path))
    assert workspace().store_uri == (tmp_path / "objects").as_uri()
    assert tracking_uri() == f"sqlite+pysqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri() == "http://127.0.0.1:5000"


def test_a_workspace_may_be_a_relative_link(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "else where").mkdir()
    (tmp_path / "link").symlink_to("else where")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINO_WORKSPACE", "link")
    assert workspace().root == tmp_path / "else where"


def test_a_workspace_that_has_no_path_or_none_in_text_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop", tmp_path / os.fsdecode(b"a\xff")):
        monkeypatch.setenv("KINO_WORKSPACE", str(path))
        with pytest.raises(ConfigError, match="the workspace") as told:
            workspace()
        assert told.value.hint == "set KINO_WORKSPACE to another folder"
        told.value.message.encode()


def test_a_user_without_a_home_has_no_files_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert (kubeconfig(), profiles_path(), load_profiles()) == (None, None, Profiles())
    with pytest.raises(ConfigError, match="no home") as told:
        save_profiles(Profiles())
    assert "KINO_PROFILES" in str(told.value.hint)
    monkeypatch.setenv("KUBECONFIG", "/a/b")
    monkeypatch.setenv("KINO_PROFILES", str(tmp_path / "profiles.yaml"))
    assert (kubeconfig(), profiles_path()) == ("/a/b", tmp_path / "profiles.yaml")
    with pytest.raises(ConfigError, match="a home that is not known"):
        make_profile(name="far", kubeconfig=Path("~/config"))


def test_data_of_two_folders_of_one_name_counts_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("one/sizes", "two/sizes")
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "table.py").write_text("")
        (tmp_path / name / "table.json").write_text("[1]")
    monkeypatch.setattr(versions, "_ROOT", tmp_path)
    modules = [f"kinetoscope.{name.replace('/', '.')}.table" for name in names]
    digests = {versions.code_digest(*modules)}
    for name in names:
        (tmp_path / name / "table.json").write_text("[2]")
        digests.add(versions.code_digest(*modules))
        (tmp_path / name / "table.json").write_text("[1]")
    assert len(digests) == 3
