"""The images' Dockerfiles and locks, read without a container engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "components" / "images"
LOCKS = ROOT / "requirements"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))
SCRIPTS = sorted(IMAGES.glob("*.sh"))

# Each image's lock, and the lock of the environment that it was tried in.
ENVIRONMENTS = {
    "control-plane": "default",
    "trainer": "default",
    "trainer-colossalai": "colossalai",
}
# botocore, the S3 client of the MLflow server, refuses python-dateutil 4.
OWN_VERSIONS = {"control-plane": {"python-dateutil"}, "trainer": set(), "trainer-colossalai": set()}
# Tools of ours that libraries need: google-auth needs cryptography, colossalai the others.
ALSO_LIBRARIES = {
    "control-plane": {"cryptography"},
    "trainer": {"cryptography"},
    "trainer-colossalai": {"cryptography", "diffusers", "pre-commit"},
}
CUDA_STACK = {"torch", "torchvision", "triton", "transformers", "av", "opencv-python-headless"}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\]+)( ; [^\\]+)?", re.MULTILINE)


class Instruction(NamedTuple):
    """One instruction of a Dockerfile."""

    name: str
    text: str


def instructions(path: Path) -> list[Instruction]:
    """Return a Dockerfile's instructions, their lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        Instruction(*(part.strip() for part in line.split(maxsplit=1)))
        for line in joined.splitlines()
        if line.strip()
    ]


def stages(path: Path) -> list[list[Instruction]]:
    """Return the stages of a Dockerfile; what precedes the first is left out."""
    found: list[list[Instruction]] = []
    for instruction in instructions(path):
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def texts(stage: list[Instruction], name: str) -> list[str]:
    """Return what follows each instruction of a name."""
    return [instruction.text for instruction in stage if instruction.name == name]


def pins(lock: str) -> dict[str, set[str]]:
    """Return the versions of each package of a lock (more than one where markers split them)."""
    found: dict[str, set[str]] = {}
    for name, version, _ in _PIN.findall((LOCKS / f"{lock}.lock").read_text()):
        found.setdefault(name, set()).add(version)
    return found


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_each_image_has_its_dockerfile() -> None:
    assert [path.stem for path in DOCKERFILES] == ["control-plane", "trainer"]


def test_the_base_image_is_an_argument(dockerfile: Path) -> None:
    first = instructions(dockerfile)[0]
    assert first == Instruction("ARG", "BASE_IMAGE=python:3.11-slim-bookworm")
    known = {"dependencies"}
    for stage in stages(dockerfile):
        assert stage[0].text.split()[0] in {"${BASE_IMAGE}", *known}


def test_it_is_built_in_stages_and_the_last_runs_nothing(dockerfile: Path) -> None:
    *builders, last = stages(dockerfile)
    assert len(builders) == 2
    assert texts(last, "RUN") == []


def test_its_processes_are_not_root_and_carry_no_entrypoint(dockerfile: Path) -> None:
    last = stages(dockerfile)[-1]
    assert texts(last, "USER") == ["10001:10001"]
    assert {i.name for i in instructions(dockerfile)} & {
        "ENTRYPOINT",
        "CMD",
        "HEALTHCHECK",
    } == set()


def test_nothing_comes_from_outside_the_checkout_and_the_package_index(dockerfile: Path) -> None:
    text = dockerfile.read_text() + "".join(script.read_text() for script in SCRIPTS)
    assert texts(instructions(dockerfile), "ADD") == []
    assert "://" not in text
    assert re.search(r"\b(curl|wget|git|apt-get|apk)\b", text) is None
    assert re.search(r"index-url|extra-index|trusted-host|find-links (?!/tmp)", text) is None


def test_it_needs_no_buildkit(dockerfile: Path) -> None:
    assert not dockerfile.read_text().startswith("# syntax")
    flags = [word for i in instructions(dockerfile) for word in i.text.split()[:3]]
    assert [flag for flag in flags if re.match(r"--(mount|link|chmod|parents|exclude)", flag)] == []
    assert "<<" not in dockerfile.read_text()


def test_its_labels_say_what_it_is(dockerfile: Path) -> None:
    last = stages(dockerfile)[-1]
    labels = dict(
        pair.split("=", 1) for label in texts(last, "LABEL") for pair in shlex.split(label)
    )
    prefix = "org.opencontainers.image."
    assert {name.removeprefix(prefix) for name in labels} == {
        *("title", "description", "licenses", "version", "revision")
    }
    assert labels[f"{prefix}version"] == "${VERSION}"
    assert labels[f"{prefix}revision"] == "${REVISION}"
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"VERSION={package['version']}" in texts(last, "ARG")
    assert labels[f"{prefix}licenses"] == package["license"]


def test_dependencies_come_before_code(dockerfile: Path) -> None:
    dependencies, _, last = stages(dockerfile)
    copied = " ".join(texts(dependencies, "COPY"))
    assert "platform" not in copied
    assert "pyproject.toml" not in copied
    names = [instruction.name for instruction in last]
    assert last[0] == Instruction("FROM", "dependencies")
    assert set(names[names.index("COPY") :]) == {"COPY", "ARG", "LABEL"}
    assert all(text.startswith("--from=code /opt/kinetoscope") for text in texts(last, "COPY"))


def test_all_that_it_copies_exists_and_passes_the_ignore_file(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored
    for stage in stages(dockerfile):
        sources = [
            word.replace("${LOCK}", "trainer")
            for text in texts(stage, "COPY")
            if not text.startswith("--from")
            for word in text.split()[:-1]
        ]
        for source in sources:
            assert (ROOT / source).exists(), source
            top = source.split("/")[0]
            wanted = "!requirements/*.lock" if top == "requirements" else f"!{top}"
            assert wanted in ignored, source


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_valid_and_stops_at_the_first_failure(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
    assert "\nset -eu\n" in script.read_text()


def test_packages_are_installed_by_hash() -> None:
    text = (IMAGES / "install-dependencies.sh").read_text()
    assert text.count("--require-hashes") == 2
    assert "--build-constraints" in text
    assert "--no-index" in (IMAGES / "install-code.sh").read_text()


@pytest.mark.parametrize("image", sorted(ENVIRONMENTS))
def test_an_image_holds_the_versions_of_its_environment(image: str) -> None:
    environment = pins(ENVIRONMENTS[image])
    held = pins(image)
    moved = {name for name in held if name in environment and not held[name] <= environment[name]}
    assert moved == OWN_VERSIONS[image]
    server = {"boto3", "botocore", "jmespath", "s3transfer", "psycopg", "psycopg-binary", "pymysql"}
    assert held.keys() - environment.keys() == {
        "pip",
        *(server if image == "control-plane" else ()),
    }


@pytest.mark.parametrize("image", sorted(ENVIRONMENTS))
def test_an_image_holds_no_tools_of_development(image: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    development = {re.split(r"[<>=~]", tool)[0] for tool in [*extras["dev"], *extras["app"]]}
    assert development & pins(image).keys() - ALSO_LIBRARIES[image] == set()


def test_only_the_trainers_hold_the_machine_learning_stack() -> None:
    assert pins("control-plane").keys() & CUDA_STACK == set()
    assert not [name for name in pins("control-plane") if name.startswith("nvidia-")]
    for image in ("trainer", "trainer-colossalai"):
        assert pins(image).keys() >= CUDA_STACK
    assert pins("trainer-colossalai")["torch"] == {"2.5.1"}
    assert "colossalai" in pins("trainer-colossalai")


@pytest.mark.parametrize("image", sorted(ENVIRONMENTS))
def test_the_build_s_own_packages_are_pinned_too(image: str) -> None:
    installer = pins("installer")
    assert {"hatchling", "setuptools", "uv"} <= installer.keys()
    held = pins(image)
    assert not {n for n in installer.keys() & held.keys() if not installer[n] <= held[n]}
