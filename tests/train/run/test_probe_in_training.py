"""The probe of a run: what it scores, and that the run does not notice."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics.pairwise import cosine_similarity
from small_encoder import SMALL
from states import assert_same_state
from torch import Tensor
from toy_task import FOLDS, LABELS, METADATA, write_toy_task

from audio_barlow_twins.eval.hear import get_scene_embeddings, load_model
from audio_barlow_twins.eval.sound.audio import AudioError
from audio_barlow_twins.model.checkpoint import load_checkpoint
from audio_barlow_twins.model.embedder import frozen
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.folder import read_metrics
from audio_barlow_twins.train.run.launch import launch
from audio_barlow_twins.train.run.probe import Probe, TaskClips, scene_task
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.step.trainer import Trainer

NAME = "probe_toy-v1-full"


@pytest.fixture
def task(tmp_path: Path, demo_waves: dict[str, np.ndarray]) -> Path:
    return write_toy_task(tmp_path / "tasks" / "toy-v1-full", demo_waves)


@pytest.fixture
def config(config: TrainConfig, task: Path) -> TrainConfig:
    """Describe a small run that is looked at twice."""
    return replace(
        config,
        encoder_options=SMALL,
        preflight=False,
        look_epochs=1,
        probe_tasks=(task,),
    )


def scored_lines(run: Path) -> dict[float, float]:
    """Return the probe's scores by step."""
    lines = read_metrics(run / "metrics.jsonl")
    return {line["step"]: line[NAME] for line in lines if NAME in line}


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_a_run_with_a_probe_ends_with_the_same_bits_as_one_without(
    config: TrainConfig, kind: str
) -> None:
    plain = replace(config, run=config.run.with_name("plain"), probe_tasks=())
    probed = replace(config, probe=kind)  # type: ignore[arg-type]
    for each in (plain, probed):
        train(each)
    assert_same_state(*(load_checkpoint(each.run / "checkpoint.pt") for each in (plain, probed)))
    scores = scored_lines(probed.run)
    assert list(scores) == [5, 10]
    assert all(0 <= score <= 1 for score in scores.values())
    assert not scored_lines(plain.run)


def test_scoring_takes_no_random_number_and_leaves_the_network_as_it_was(
    config: TrainConfig,
    shard_set: ShardSet,
    task: Path,
    take: Callable[[Trainer, int], list[Tensor]],
) -> None:
    trainer = Trainer(config, shard_set)
    take(trainer, 2)
    probe = Probe([task], "linear", trainer.checkpoint(), trainer.device)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    numbers = torch.get_rng_state()
    probe.scores(trainer.checkpoint())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert trainer.network.training
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_last_score_is_that_of_the_saved_encoder_by_the_hear_api(
    config: TrainConfig, task: Path
) -> None:
    train(config)
    model = load_model(config.run / "encoder.pt", "cpu")
    rows, labels = {}, {}
    for fold in FOLDS:
        listing = json.loads((task / f"{fold}.json").read_text())
        waves = [soundfile.read(task / "16000" / fold / name, dtype="float32") for name in listing]
        embedded = [get_scene_embeddings(torch.from_numpy(x)[None], model)[0] for x, _ in waves]
        rows[fold] = np.stack([x.numpy() for x in embedded])
        labels[fold] = np.array([LABELS.index(label) for (label,) in listing.values()])
    accuracies = []
    for fold in FOLDS:
        known, given = (
            np.concatenate([part[other] for other in FOLDS if other != fold])
            for part in (rows, labels)
        )
        similar = cosine_similarity(rows[fold], known)
        nearest = np.argsort(-similar, axis=1)[:, :6]  # of 12 known clips 6 have each label
        weights = np.exp(np.take_along_axis(similar, nearest, 1) / 0.07)
        votes = np.stack([(weights * (given[nearest] == i)).sum(1) for i in (0, 1)], axis=1)
        accuracies.append(np.mean(votes.argmax(1) == labels[fold]))
    assert scored_lines(config.run)[10] == pytest.approx(np.mean(accuracies))


def test_clips_that_find_no_room_are_read_again_with_the_same_result(
    config: TrainConfig, shard_set: ShardSet, task: Path
) -> None:
    trainer = Trainer(config, shard_set)
    model = frozen(trainer.checkpoint(), "cpu")
    read = scene_task(task, 16000)
    everything = TaskClips(read, model, 2**30)
    half = TaskClips(read, model, everything.kept_bytes // 2)
    nothing = TaskClips(read, model, 0)
    assert 0 == nothing.kept_bytes < half.kept_bytes <= everything.kept_bytes // 2
    expected = everything.embed(model)
    for clips in (half, nothing):
        for split, found in clips.embed(model).items():
            assert torch.equal(found.embeddings, expected[split].embeddings)
            assert torch.equal(found.targets, expected[split].targets)


def test_embeddings_that_are_not_finite_score_nan(
    config: TrainConfig, shard_set: ShardSet, task: Path
) -> None:
    trainer = Trainer(config, shard_set)
    probe = Probe([task], "knn", trainer.checkpoint(), trainer.device)
    with torch.no_grad():
        next(trainer.network.encoder.parameters()).fill_(torch.nan)
    assert np.isnan(probe.scores(trainer.checkpoint())[NAME])


def test_a_clip_at_the_wrong_rate_is_one_line_before_the_first_step(
    config: TrainConfig, task: Path
) -> None:
    clip = max((task / "16000" / FOLDS[2]).iterdir())
    soundfile.write(clip, np.zeros(8000), 8000)
    with pytest.raises(UserError, match=f"{clip.name}: is at 8000 Hz"):
        train(config)
    assert read_metrics(config.run / "metrics.jsonl") == []


def test_a_wrong_folder_is_one_line_before_anything_is_written(
    config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="absent"):
        train(replace(config, probe_tasks=(tmp_path / "absent",)))
    assert not config.run.exists()


def test_an_event_task_and_two_tasks_of_one_name_are_refused(
    config: TrainConfig, shard_set: ShardSet, task: Path
) -> None:
    trainer = Trainer(config, shard_set)
    with pytest.raises(UserError, match="same name"):
        Probe([task, task], "knn", trainer.checkpoint(), trainer.device)
    events = METADATA | {
        "embedding_type": "event",
        "prediction_type": "multilabel",
        "evaluation": ["event_onset_200ms_fms"],
    }
    (task / "task_metadata.json").write_text(json.dumps(events))
    for fold in FOLDS:
        listing = json.loads((task / f"{fold}.json").read_text())
        (task / f"{fold}.json").write_text(json.dumps({name: [] for name in listing}))
    with pytest.raises(UserError, match="is an event task"):
        scene_task(task, 16000)


@pytest.mark.slow
def test_the_first_of_several_processes_scores_and_says_what_is_wrong(
    config: TrainConfig, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    several = replace(config, workers=2, epochs=0.4)
    launch(train, several)
    assert list(scored_lines(config.run)) == [2]
    clip = min((task / "16000" / FOLDS[0]).iterdir())
    clip.unlink()
    with pytest.raises(UserError, match=f"{clip.name}: missing"):
        launch(train, replace(several, run=config.run.with_name("other")))


def test_a_clip_that_becomes_unreadable_is_one_line(
    config: TrainConfig, shard_set: ShardSet, task: Path
) -> None:
    trainer = Trainer(config, shard_set)
    model = frozen(trainer.checkpoint(), "cpu")
    clips = TaskClips(scene_task(task, 16000), model, 0)
    broken = min((task / "16000" / FOLDS[0]).iterdir())
    broken.write_bytes(b"no sound")
    with pytest.raises(AudioError, match=broken.name):
        clips.embed(model)
