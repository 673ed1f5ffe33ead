"""Each image in a restricted pod with a read-only root: its user, what it holds, what works."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import installed
import pytest

_TAGS = {
    "control-plane": "KINO_TEST_TAG",
    "trainer": "KINO_TEST_TRAINER_TAG",
    "trainer-colossalai": "KINO_TEST_TRAINER_COLOSSALAI_TAG",
}
_LIBRARIES = {
    "control-plane": ["boto3", "kfp", "kubernetes", "minio", "mlflow", "psycopg", "pymysql"],
    "trainer": [
        "av",
        "cv2",
        "kfp",
        "mlflow",
        "polars",
        "torch",
        "torchvision",
        "transformers",
    ],
    "trainer-colossalai": ["av", "colossalai", "cv2", "mlflow", "polars", "torch", "torchvision"],
}
_PULL_SECONDS = 600
# Runs in the pod; reports as JSON in its last line.
_INSPECT = """
import importlib, importlib.util, json, os, shutil, subprocess, sys

def told(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return {"code": done.returncode, "said": (done.stdout + done.stderr).strip()}

def fails(name):
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

import kinetoscope
print("\\n" + json.dumps({
    "ids": [os.getuid(), os.getgid()],
    "folder": os.getcwd(),
    "python": sys.prefix,
    "pip check": told("python", "-m", "pip", "check"),
    "version": told("kino", "--version"),
    "help": told("kino", "--help"),
    "recipes": told("kino", "recipes"),
    "compilers": [name for name in ("cc", "gcc", "g++", "ld", "nvcc", "uv") if shutil.which(name)],
    "bytecode": os.path.exists(kinetoscope.__cached__),
    "torch": importlib.util.find_spec("torch") is not None,
    "fails": {name: why for name in sys.argv[1:] if (why := fails(name))},
}))
"""


def _pod(namespace: str, image: str) -> dict[str, Any]:
    name = image.rpartition("/")[2].partition(":")[0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "containers": [
                {
                    "name": "inspect",
                    "image": image,
                    "command": ["python", "-c", _INSPECT, *_LIBRARIES[name]],
                    "resources": {"requests": {"cpu": "50m"}},
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def _phase(namespace: str, name: str) -> str:
    command = ("get", "pod", name, "-n", namespace, "-o", "jsonpath={.status.phase}")
    return installed.kubectl(*command)


@pytest.mark.parametrize("image", sorted(_TAGS))
def test_an_image_runs_restricted_and_holds_what_it_should(
    cluster: object, request: pytest.FixtureRequest, image: str
) -> None:
    registry = installed.given("KINO_TEST_REGISTRY", "the registry of our images")
    tag = installed.given(_TAGS[image], f"the tag of kinetoscope/{image} there")
    namespace: str = request.getfixturevalue("namespace")
    installed.apply(_pod(namespace, f"{registry}/kinetoscope/{image}:{tag}"))
    installed.wait_until(
        lambda: _phase(namespace, image) in {"Succeeded", "Failed"},
        f"the end of the pod of {image}",
        seconds=_PULL_SECONDS,
    )
    logs = installed.kubectl("logs", image, "-n", namespace)
    assert _phase(namespace, image) == "Succeeded", logs
    found = json.loads(logs.splitlines()[-1])

    assert found["ids"] == [10001, 10001]
    assert found["folder"] == "/workspace"
    assert found["python"] == "/opt/kinetoscope"
    assert found["pip check"] == {"code": 0, "said": "No broken requirements found."}
    assert found["version"] == {"code": 0, "said": f"kinetoscope {version('kinetoscope')}"}
    assert found["help"]["code"] == 0
    assert "doctor" in found["help"]["said"]
    assert found["recipes"]["code"] == 0, found["recipes"]
    assert found["compilers"] == []
    assert found["bytecode"]
    assert found["torch"] == (image != "control-plane")
    assert found["fails"] == {}
