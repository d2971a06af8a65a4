"""The questions for a GPU, asked of a CPU, whose answers are known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("gpu.py")


@pytest.mark.slow
def test_a_cpu_agrees_with_itself(tmp_path: Path) -> None:
    parts = ("machine", "log-mel", "views", "gradients", "waits", "bits", "hear")
    command = [sys.executable, SCRIPT, "--out", tmp_path, "--device", "cpu", "--tiny"]
    done = subprocess.run(
        [*map(str, command), "--budget", "1500", "--parts", *parts], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert tuple(found) == parts
    assert not any(
        {"died", "out of time after s", "skipped"} & part.keys() for part in found.values()
    )
    assert found["log-mel"]["fft"]["max"] == 0 < found["log-mel"]["nnaudio"]["max"] < 0.01
    assert {error["max"] for error in found["views"].values()} == {0}
    assert found["gradients"]["vitc-t, float32"] < 1e-4 < found["gradients"]["vitc-t, bf16"] < 0.5
    assert found["gradients"]["LARS, float32"] < 1e-4
    assert len(found["waits"]) == 4
    assert not any(found["waits"].values())
    assert all(all(answers.values()) for answers in found["bits"].values())
    assert found["hear"]["relative error"] == 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_part_that_dies_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--out", tmp_path, "--device", "cuda", "--tiny"]
    done = subprocess.run(
        [*map(str, command), "--parts", "log-mel", "machine"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [part["died"] for part in found.values()] == [1, 1]
    assert "Traceback" in (tmp_path / "child.log").read_text()
