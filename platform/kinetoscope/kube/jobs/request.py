"""What is asked of the cluster: one training job, its name and its checks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.hashing import digest_bytes, digest_json
from kinetoscope.kube.config import PodConfig

Engine = Literal["torch_ddp", "colossalai_ddp"]
"""As in ``loop.engine`` of a run (``training.engine.config``, beside which kube is)."""

LONGEST_NAME = 48
"""Kubeflow Trainer 2.3 accepts a longer name, and then never runs the job."""

DIGEST_VERSION = "1"
"""Of the fields that `TrainingJob.digest` covers; raised when it covers others."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = "PET_"
_HASH_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training job.

    Nothing owns it: what would (a launcher's pod, a Workflow, which is collected an hour after its
    end) goes away while it trains. Whoever launched it deletes it.

    Args:
        name: of the TrainJob and of its runtime; `job_name` makes one.
        namespace: of the run.
        run: id of the run, a label.
        stage: of the run, a label.
        command: what each node executes; it finds its rank and its peers in ``PET_*``.
        num_nodes: pods.
        procs_per_node: ranks in each pod (``PET_NPROC_PER_NODE``).
        pod: what each pod gets.
        env: further environment variables; never a secret, since everybody who may read the
            TrainJob reads them.
        max_restarts: replaces the template's; restarts after 75, 78 or a lost node are free.
        grace_seconds: replaces the template's time from SIGTERM to SIGKILL.
        launched_for: who wants it, e.g. ``rabc2345/1`` of a run's first start.
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
    pod: PodConfig = field(default_factory=PodConfig)
    env: Mapping[str, str] = field(default_factory=dict)
    max_restarts: int | None = None
    grace_seconds: int | None = None
    launched_for: str = ""
    engine: Engine = "torch_ddp"

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_label("run", self.run)
        _check_label("stage", self.stage)
        _check_at_least("num_nodes", self.num_nodes, 1)
        _check_at_least("procs_per_node", self.procs_per_node, 1)
        _check_at_least("max_restarts", self.max_restarts or 0, 0)
        if not self.command or isinstance(self.command, str):
            raise ConfigError(f"command is {self.command!r}; it must be a list of words")
        _check_variables(self.env)

    @property
    def gpus_per_node(self) -> int:
        """GPUs of each pod."""
        return self.procs_per_node if self.pod.gpus is None else self.pod.gpus

    @property
    def queued(self) -> bool:
        """Whether Kueue starts and suspends it."""
        return self.pod.queue is not None

    def digest(self) -> str:
        """Return the digest of what decides whether another request is for the same job.

        That is what its ranks do, and how many there are. What the template or a newer version adds
        is left out: a launcher that comes back after an upgrade still recognises its job.
        """
        value = {
            "command": list(self.command),
            "num_nodes": self.num_nodes,
            "procs_per_node": self.procs_per_node,
        }
        return f"{DIGEST_VERSION}:{digest_json(value)}"


def job_name(title: str, identity: str) -> str:
    """Return the one name of the job of an identity: valid, short, with a letter first.

    It always ends with a hash, so that two titles that are cut or cleaned to the same text keep
    different names.

    Args:
        title: for people, e.g. the name of the step.
        identity: what the job is of, e.g. the URI of the step.
    """
    text = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if not text[:1].isalpha():
        text = f"k-{text}".rstrip("-")
    sha = digest_bytes(f"{title}\n{identity}".encode()).removeprefix("sha256:")[:_HASH_LENGTH]
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
