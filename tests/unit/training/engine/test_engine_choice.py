from __future__ import annotations

from importlib.util import find_spec
from typing import get_args

import pytest
from pydantic import ValidationError

from kinetoscope.core.errors import ConfigError
from kinetoscope.kube.jobs.request import Engine
from kinetoscope.steps.rank_environment import ALONE
from kinetoscope.training.engine.choice import build_engine, check_engine
from kinetoscope.training.engine.config import EngineName
from kinetoscope.training.engine.torch_ddp import TorchDDPEngine
from kinetoscope.training.loop.config import TrainLoopConfig


def test_torch_is_everywhere() -> None:
    engine = build_engine("torch_ddp", ALONE, dtype="fp32")
    assert type(engine) is TorchDDPEngine


def test_jobs_in_a_cluster_name_engines_as_configs_do() -> None:
    assert get_args(Engine) == get_args(EngineName)


@pytest.mark.skipif(find_spec("colossalai") is not None, reason="this environment has ColossalAI")
def test_an_engine_that_the_environment_lacks_is_refused_with_where_it_is() -> None:
    with pytest.raises(ConfigError, match="needs ColossalAI, which this environment") as error:
        check_engine("colossalai_ddp")
    assert "kinetoscope/trainer-colossalai" in str(error.value.hint)
    assert "make setup-colossalai" in str(error.value.hint)


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    loop = {"num_steps": 1, "optimizer": {"lr": 0.1}, "engine": "colossalai_zero2"}
    with pytest.raises(ValidationError, match="'torch_ddp' or 'colossalai_ddp'"):
        TrainLoopConfig.model_validate(loop)
