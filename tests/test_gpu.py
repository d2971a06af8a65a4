"""What only a GPU can show; needs torch, nnAudio, and the packages that training imports."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gpu import without_dropout
from torch import Tensor

from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.shards.base.device import repeatable
from audio_barlow_twins.shards.base.transfer import HostCopy, to_device
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.shards.stored.synthetic import synthetic_shards
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.run.preflight import measure
from audio_barlow_twins.train.run.saving import Saver
from audio_barlow_twins.train.step.graph import WARM_UP
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.views.registry import WAVE_PRESETS

GPU = torch.device("cuda")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, before the first product
STEPS = WARM_UP + 4


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write sets of noise, log-mel and waves."""
    folder = tmp_path_factory.mktemp("noise")
    synthetic_shards(folder / "logmel", 64, 32)
    synthetic_shards(folder / "wave", 32, 32, wave_form())
    return folder


@pytest.fixture
def config(noise: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        shards=str(noise / "logmel"), run=tmp_path / "run", projector_hidden=64, projector_out=32,
        batch=8, epochs=STEPS / 8, device="cuda", precision="float32",
    )  # fmt: skip


@contextmanager
def never_waiting() -> Iterator[None]:
    """Raise where the host waits for the GPU."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def losses(trainer: Trainer) -> Tensor:
    return torch.stack([trainer.take_step(inputs) for inputs in trainer.batches()])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["plain", "graph"])
@pytest.mark.parametrize("waves", [False, True])
def test_no_step_waits_for_the_gpu(config: TrainConfig, kind: str, waves: bool) -> None:
    config = replace(config, step=kind)
    if waves:
        chain = WAVE_PRESETS["waveform-strong"]
        shards = config.shards.replace("logmel", "wave")
        config = replace(config, shards=shards, views=(*chain, "mixup"), epochs=2)
    trainer = Trainer(config, open_shards(config.shards))
    stream = trainer.batches()
    for _ in range(WARM_UP + 1):  # the first steps load kernels, or are captured
        trainer.take_step(next(stream))
    with never_waiting():
        for inputs in stream:
            trainer.take_step(inputs)
    seconds, shares = trainer.clock.lap()
    assert seconds > 0
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.gpu
@pytest.mark.parametrize("optimiser", ["lars", "adamw"])
def test_a_graph_gives_the_losses_of_plain_steps(config: TrainConfig, optimiser: str) -> None:
    config = replace(config, optimiser=OptimiserConfig(kind=optimiser, warmup_epochs=0.5))
    plain, graph = (
        losses(Trainer(replace(config, step=kind), open_shards(config.shards)))
        for kind in ("plain", "graph")
    )
    torch.testing.assert_close(graph, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
def test_the_gpu_gives_the_losses_of_the_cpu(config: TrainConfig) -> None:
    found = []
    for device in ("cpu", "cuda"):
        trainer = Trainer(replace(config, device=device), open_shards(config.shards))
        found.append(losses(without_dropout(trainer)).cpu())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_a_preflight_leaves_no_trace(config: TrainConfig) -> None:
    with repeatable(True):
        measured, straight = (Trainer(config, open_shards(config.shards)) for _ in range(2))
        assert measure(measured).network > 0
        assert torch.equal(losses(measured), losses(straight))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["plain", "graph"])
@pytest.mark.parametrize("encoder", ["audiontt", "vitc-t-16x8"])
def test_a_resumed_run_repeats_the_straight_one(
    config: TrainConfig, encoder: str, kind: str
) -> None:
    config = replace(config, encoder=encoder, step=kind, precision="bf16")
    with repeatable(True):
        straight, resumed = (Trainer(config, open_shards(config.shards)) for _ in range(2))
        stream = straight.batches()
        for _ in range(3):
            straight.take_step(next(stream))
        stream.close()
        resumed.restore(deepcopy(straight.checkpoint()))
        assert torch.equal(losses(resumed), losses(straight))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["nnaudio", "fft"])
def test_log_mel_is_the_cpus_without_tensor_float_32(backend: str) -> None:
    rng = torch.Generator().manual_seed(0)
    wave = torch.randn(50, 16000, generator=rng) * torch.logspace(-4, -0.5, 50)[:, None]
    expected = LogMel()(wave)
    torch.backends.cuda.matmul.allow_tf32 = True
    with torch.autocast("cuda", dtype=torch.float16):
        found = LogMel(backend=backend).cuda()(wave.cuda()).cpu()
    torch.backends.cuda.matmul.allow_tf32 = False
    error = (found - expected).abs()
    assert error[expected > -3].max() < 2e-4
    assert error.max() < (0.05 if backend == "nnaudio" else 1e-4)


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for_before_the_values_are_asked_for() -> None:
    x = torch.randn(1000, 1000)
    with never_waiting():
        y = to_device(x, GPU)
        copies = [HostCopy(y * i) for i in range(20)]
    for i, copy in enumerate(copies):
        found = copy.result()
        assert not found.is_pinned()
        assert torch.equal(found, x * i)


@pytest.mark.gpu
def test_a_saved_copy_is_not_waited_for_and_is_of_the_time_of_the_save() -> None:
    written = list[Checkpoint]()
    weights = torch.ones(5000, 5000, device=GPU)
    checkpoint = Checkpoint(
        encoder="any", sizes={}, state={"weights": weights}, front_end={}, mean=0, std=1,
        fingerprint="f", step=1,
    )  # fmt: skip
    with Saver(written.append, GPU, 0) as saver, never_waiting():
        saver.save(checkpoint)
        weights += 1
    kept = written[0].state["weights"]
    assert kept.is_pinned()
    assert torch.equal(kept, torch.ones(5000, 5000))


def test_these_tests_start_without_the_libraries_of_other_rooms(tmp_path: Path) -> None:
    lacking = ("s3fs", "soundfile", "soxr", "librosa", "ray", "ffmpeg", "yt_dlp", "sklearn")
    (tmp_path / "lacking.py").write_text(f"import sys\nsys.modules |= dict.fromkeys({lacking})\n")
    command = [sys.executable, "-m", "pytest", "-p", "lacking", "-m", "gpu", "--collect-only"]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, __file__], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_no_step_waits_for_the_gpu" in done.stdout
