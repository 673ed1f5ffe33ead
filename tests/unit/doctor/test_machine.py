"""The machine's own checks, on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kinetoscope.doctor import machine as machine_checks
from kinetoscope.doctor.machine import (
    check_codecs,
    check_cores,
    check_disk,
    check_gpu,
    check_memory,
    check_shm,
    judge_codecs,
)


def test_frames_are_really_written_and_read() -> None:
    finding = check_codecs()
    assert finding.state == "ok", finding
    assert "H.264" in finding.found


def test_codecs_are_tried_in_another_process() -> None:
    loaded = "av" in sys.modules
    check_codecs()
    assert ("av" in sys.modules) == loaded


def test_an_environment_without_pyav_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('no libx264.so')")
    paths = [str(tmp_path), str(Path(machine_checks.__file__).parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    finding = check_codecs()
    assert finding.state == "bad"
    assert "no libx264.so" in finding.found
    assert "make setup" in finding.hint


def test_without_h264_the_encoders_that_work_are_told() -> None:
    told = {
        "encoders": {"libx264": "UnknownCodecError: libx264", "libopenh264": "x", "mpeg4": ""},
        "missing_decoders": [],
    }
    finding = judge_codecs(told, "tried", "hint")
    assert finding.state == "bad"
    assert "works here: mpeg4" in finding.found


def test_a_format_that_can_t_be_read_is_poor() -> None:
    told = {"encoders": {"libx264": ""}, "missing_decoders": ["av1"]}
    assert judge_codecs(told, "tried", "hint").state == "poor"


def test_more_threads_than_cores_are_poor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    finding = check_cores()
    assert finding.state == "poor"
    assert "OMP_NUM_THREADS=4096" in finding.found
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in check_cores().hint


def test_a_full_disk_is_bad_and_a_small_one_poor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "not" / "yet" / "there"
    assert check_disk(root).state in ("ok", "poor")
    monkeypatch.setattr(machine_checks, "_ENOUGH_DISK_BYTES", 1 << 60)
    assert check_disk(root).state == "poor"
    monkeypatch.setattr(machine_checks, "_LEAST_DISK_BYTES", 1 << 60)
    assert check_disk(root).state == "bad"
    assert "KINO_WORKSPACE" in check_disk(root).hint


def test_little_shared_memory_is_poor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_shm(tmp_path / "absent").state == "skipped"
    monkeypatch.setattr(machine_checks, "_ENOUGH_SHM_BYTES", 0)
    assert check_shm(tmp_path).state == "ok"
    monkeypatch.setattr(machine_checks, "_ENOUGH_SHM_BYTES", 1 << 60)
    assert check_shm(tmp_path).state == "poor"


def test_little_memory_is_poor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_ENOUGH_MEMORY_BYTES", 1 << 60)
    assert check_memory().state == "poor"
    monkeypatch.setattr(machine_checks, "_ENOUGH_MEMORY_BYTES", 0)
    assert check_memory().state == "ok"


def test_a_gpu_that_torch_does_not_see_is_poor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        assert check_gpu().state == "ok"
        return
    monkeypatch.setattr(machine_checks, "_GPU_SIGNS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_gpu().state == "skipped"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    finding = check_gpu()
    assert finding.state == "poor"
    assert "sees none" in finding.found
