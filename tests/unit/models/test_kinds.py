"""Models by the name of their kind."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kinetoscope.core.config_model import Config
from kinetoscope.core.errors import ConfigError
from kinetoscope.models import kinds
from kinetoscope.models.base import Transformer, build_autoencoder, build_transformer
from kinetoscope.models.choice import (
    AnyTransformer,
    AnyVideoAutoencoder,
    default_transformer,
    default_video_autoencoder,
)
from kinetoscope.models.config import TransformerConfig
from kinetoscope.models.kinds import config_class, known_kinds, modules_of
from kinetoscope.models.stdit.config import STDiTConfig
from kinetoscope.models.vae.config import VideoVAEConfig

TINY = {"depth": 1, "width": 16, "num_heads": 2, "text_width": 8}


class Models(Config):
    dit: AnyTransformer
    vae: AnyVideoAutoencoder


def models(**dit: Any) -> Models:
    return Models.model_validate({"dit": dit, "vae": {}})


def test_a_mapping_becomes_the_config_of_its_kind_and_back() -> None:
    given = models(kind="stdit", **TINY)
    assert given.dit == STDiTConfig.model_validate(TINY)
    assert isinstance(given.vae, VideoVAEConfig)
    assert given.to_json()["dit"]["depth"] == 1
    assert Models.model_validate(given.to_json()) == given


def test_without_a_kind_it_is_open_sora_s() -> None:
    assert models(**TINY) == models(kind="stdit", **TINY)
    assert default_transformer() == STDiTConfig()
    assert default_video_autoencoder() == VideoVAEConfig()


@pytest.mark.parametrize(
    ("dit", "place", "message"),
    [
        ({"kind": "huge"}, ("dit",), "no kind of model 'huge'; kinds are stdit, vae"),
        ({"kind": "vae"}, ("dit",), "the kind 'vae' is no Transformer"),
        ({"kind": "stdit", "widht": 16}, ("dit", "widht"), "not permitted"),
        ({"kind": "stdit", "depth": 0}, ("dit", "depth"), "greater than 0"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(
    dit: dict[str, Any], place: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        models(**dit)
    assert caught.value.errors()[0]["loc"] == place


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of installed distributions."""
    monkeypatch.syspath_prepend(tmp_path)
    kinds._entry_points.cache_clear()
    yield tmp_path
    kinds._entry_points.cache_clear()


def install(site: Path, distribution: str, kind: str, package: str, config: str = "") -> None:
    points = site / f"{distribution}-1.0.dist-info" / "entry_points.txt"
    points.parent.mkdir()
    points.write_text(f"[kinetoscope.models]\n{kind} = {package}\n")
    (site / package).mkdir(exist_ok=True)
    (site / package / "__init__.py").touch()
    (site / package / "config.py").write_text(config)


def test_a_broken_kind_is_told_when_it_is_asked_for_and_harms_no_other(site: Path) -> None:
    install(site, "broken", "broken", "kind_that_fails", "raise RuntimeError('no licence')\n")
    assert "broken" in known_kinds()
    assert "STDiTConfig" in str(Models.model_json_schema())
    with pytest.raises(ValidationError, match=r"'broken' can't be used: .*no licence"):
        models(kind="broken")


def test_two_packages_of_one_kind_are_both_named(site: Path) -> None:
    install(site, "one", "twice", "first_of_two")
    install(site, "two", "twice", "second_of_two")
    install(site, "three", "stdit", "another_stdit")
    with pytest.raises(ConfigError, match="'twice' is first_of_two and second_of_two"):
        config_class("twice")
    with pytest.raises(ConfigError, match=r"'stdit' is another_stdit and kinetoscope.models.stdit"):
        config_class("stdit")


def test_an_entry_point_and_its_config_have_one_name(site: Path) -> None:
    install(
        site,
        "misnamed",
        "outside",
        "misnamed_kind",
        "from kinetoscope.models.stdit.config import STDiTConfig as MODEL_CONFIG\n",
    )
    with pytest.raises(ConfigError, match=r"'outside' can't be used: .*kind is 'stdit'"):
        config_class("outside")


def test_a_schema_has_every_kind_s_fields() -> None:
    (schema,) = Models.model_json_schema()["properties"]["dit"]["anyOf"]
    schema = Models.model_json_schema()["$defs"].get("STDiTConfig", schema)
    assert set(STDiTConfig.model_fields) == set(schema["properties"])


def test_every_kind_has_a_config_and_a_model_of_its_type() -> None:
    assert known_kinds() == ["stdit", "vae"]
    for kind in known_kinds():
        config = config_class(kind).model_validate({})
        assert config.kind == kind
        assert {name.rpartition(".")[2] for name in modules_of(config)} >= {"config", "model"}


def test_a_kind_that_starts_from_others_weights_names_what_loads_them() -> None:
    assert STDiTConfig.pretrained_layouts == ("stdit", "pixart")
    assert callable(import_module(STDiTConfig.pretrained_module).load_pretrained)
    assert STDiTConfig.pretrained_module in modules_of(STDiTConfig())


def test_a_model_is_built_as_its_type_only() -> None:
    transformer = build_transformer(STDiTConfig.model_validate(TINY))
    assert isinstance(transformer, Transformer)
    assert list(transformer.units()) == [
        *transformer.get_submodule("spatial_blocks").children(),
        *transformer.get_submodule("temporal_blocks").children(),
    ]
    with pytest.raises(ConfigError, match="no VideoAutoencoder"):
        build_autoencoder(STDiTConfig.model_validate(TINY))  # type: ignore[arg-type]


def test_a_kind_that_can_t_share_samples_says_so() -> None:
    class Alone(Transformer):
        def __init__(self) -> None:
            super().__init__()
            self.config = TransformerConfig.model_construct(kind="alone")

    Alone().parallelise(None)
    with pytest.raises(ConfigError, match="'alone' can't share a sample"):
        Alone().parallelise(object())  # type: ignore[arg-type]
