"""What is asked of the cluster: one training job, its name and its checks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.hashing import digest_bytes, digest_json

Engine = Literal["torch_ddp", "colossalai_ddp"]
"""As in ``loop.engine`` of a run (``training.engine.config``, beside which kube is)."""

LONGEST_NAME = 48
"""Kubeflow Trainer 2.3 accepts a longer name, and then never runs the job."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "PET_"
_HASH_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training job of one stage of a run.

    Args:
        name: of the TrainJob and of its runtime; `job_name` makes one.
        namespace: of the run.
        run: id of the run, a label.
        stage: of the run, a label.
        command: what each node executes; it finds its rank and its peers in ``PET_*``.
        num_nodes: pods.
        procs_per_node: ranks in each pod (``PET_NPROC_PER_NODE``).
        gpus_per_node: ``nvidia.com/gpu`` of each pod.
        env: further environment variables; never a secret, since everybody who may read the
            TrainJob reads them.
        image: replaces the one of the template.
        max_restarts: replaces the template's; restarts after 75, 78 or a lost node are free.
        priority_class: replaces the template's.
        engine: which template, that is which image.

    Raises:
        ConfigError: naming the field and what is allowed.
    """

    name: str
    namespace: str
    run: str
    stage: str
    command: Sequence[str]
    num_nodes: int = 1
    procs_per_node: int = 1
    gpus_per_node: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    max_restarts: int | None = None
    priority_class: str | None = None
    engine: Engine = "torch_ddp"

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_label("run", self.run)
        _check_label("stage", self.stage)
        _check_at_least("num_nodes", self.num_nodes, 1)
        _check_at_least("procs_per_node", self.procs_per_node, 1)
        _check_at_least("gpus_per_node", self.gpus_per_node, 0)
        _check_at_least("max_restarts", self.max_restarts or 0, 0)
        if not self.command or isinstance(self.command, str):
            raise ConfigError(f"command is {self.command!r}; it must be a list of words")
        _check_variables(self.env)

    def digest(self) -> str:
        """Return the digest of the request.

        What the chart's template adds is left out: when the chart is upgraded while the job runs,
        a launcher that comes back still recognises its job.
        """
        value = {**asdict(self), "command": list(self.command), "env": dict(self.env)}
        return digest_json(value)


def job_name(run: str, stage: str) -> str:
    """Return the one name of a run's stage: a valid, short name that starts with a letter.

    It always ends with a hash of both, so that two stages that are cut or cleaned to the same
    text keep different names.
    """
    text = re.sub(r"[^a-z0-9]+", "-", f"{run}-{stage}".lower()).strip("-")
    if not text[:1].isalpha():
        text = f"k-{text}".rstrip("-")
    sha = digest_bytes(f"{run}\n{stage}".encode()).removeprefix("sha256:")[:_HASH_LENGTH]
    return f"{text[: LONGEST_NAME - _HASH_LENGTH - 1].rstrip('-')}-{sha}"


def check_name(name: str) -> None:
    """Refuse a name with which a TrainJob would be refused, or accepted and never run.

    Raises:
        ConfigError: naming the rule.
    """
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise ConfigError(
            f"a training job can't be named {name!r} ({len(name)} characters)",
            hint=f"at most {LONGEST_NAME} of a-z, 0-9 and -, a letter first, no - at the end",
        )


def _check_label(key: str, value: str) -> None:
    if not _LABEL_VALUE.fullmatch(value):
        raise ConfigError(
            f"{key} is {value!r}, which is no value of a Kubernetes label",
            hint="at most 63 of A-Z, a-z, 0-9, -, _ and ., a letter or a digit at both ends",
        )


def _check_at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{key} is {value}; it must be at least {least}")


def _check_variables(env: Mapping[str, str]) -> None:
    for name in env:
        if name.startswith(_RESERVED):
            raise ConfigError(f"env names {name}; Kubeflow Trainer sets {_RESERVED}* itself")
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(f"env names {name!r}, which is no name of an environment variable")
