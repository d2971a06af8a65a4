"""A small shard set of demo clips, made without Ray, and small runs on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoder import SMALL

from audio_barlow_twins.shards.stored.form import Form, logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel, stored_logmel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards
from audio_barlow_twins.shards.stored.sidecar import Row
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.views.logmel import Mixup

CLIPS = 40
PER_SHARD = 24


@pytest.fixture(scope="session")
def arrays(demo_waves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute the log-mel of every fifth demo clip, float16 [T, 64]."""
    log_mel = LogMel()
    chosen = list(demo_waves)[::5][:CLIPS]
    return {key: stored_logmel(log_mel, demo_waves[key]) for key in chosen}


@pytest.fixture(scope="session")
def write_set() -> Callable[[Path, Form, dict[str, np.ndarray]], Path]:
    """Return a function that writes a shard set."""

    def write(folder: Path, form: Form, clips: dict[str, np.ndarray]) -> Path:
        items = list(clips.items())
        for number, begin in enumerate(range(0, len(items), PER_SHARD)):
            with writing_shard(folder, shard_name(number), form, "plan") as writer:
                for key, array in items[begin : begin + PER_SHARD]:
                    row = Row(
                        key=key,
                        status="ok",
                        source="test",
                        source_version="",
                        origin=key,
                        labels=[],
                    )
                    writer.add(row, array)
        return folder

    return write


@pytest.fixture(scope="session")
def shards(
    tmp_path_factory: pytest.TempPathFactory,
    arrays: dict[str, np.ndarray],
    write_set: Callable[..., Path],
) -> Path:
    """Write forty demo clips as a log-mel set of two shards."""
    return write_set(tmp_path_factory.mktemp("shards"), logmel_form(FrontEnd()), arrays)


@pytest.fixture(scope="session")
def shard_set(shards: Path) -> ShardSet:
    """Open the set."""
    return open_shards(shards)


@pytest.fixture(scope="session")
def waves(
    tmp_path_factory: pytest.TempPathFactory,
    demo_waves: dict[str, np.ndarray],
    write_set: Callable[..., Path],
) -> Path:
    """Write three demo clips as a wave set."""
    chosen = {key: demo_waves[key] for key in list(demo_waves)[:3]}
    return write_set(tmp_path_factory.mktemp("waves"), wave_form(), chosen)


@pytest.fixture
def config(shards: Path, tmp_path: Path) -> TrainConfig:
    """Describe a run of ten steps on the CPU that saves after every step."""
    return TrainConfig(
        shards=str(shards),
        run=tmp_path / "run",
        encoder_options=SMALL,
        projector_hidden=32,
        projector_out=16,
        crop_frames=32,
        batch=8,
        epochs=2,
        ranges={"mixup": Mixup(memory=12)},
        device="cpu",
        precision="float32",
        reader_ahead=2,
        log_every=1,
        checkpoint_every_s=0,
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the child processes do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def take() -> Callable[[Trainer, int], list[torch.Tensor]]:
    """Return a function that takes the next steps and returns their losses."""

    def steps(trainer: Trainer, n: int) -> list[torch.Tensor]:
        chosen = zip(range(n), trainer.batches(), strict=False)
        return [trainer.take_step(batch) for _, batch in chosen]

    return steps
