"""Scores on disk: whole or not there, gone on with after a kill, done once by several processes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from toy_task import make_events, write_toy_task

from audio_barlow_twins.eval.embed.embedded import Embedded
from audio_barlow_twins.eval.embed.tasks import embed_task
from audio_barlow_twins.eval.probe.evaluate import evaluate, n_trainings
from audio_barlow_twins.eval.probe.recipe import FAST, HEAREVAL, ProbeRecipe
from audio_barlow_twins.eval.probe.result import TaskResult
from audio_barlow_twins.eval.run.scoring import Scores, count_trainings, score
from audio_barlow_twins.eval.systems.system import LoadedSystem
from audio_barlow_twins.eval.tasks.task import Task, read_task
from audio_barlow_twins.model.embedder import Embedder

Splits = dict[str, Embedded]
INPUTS = {"system": "one", "seeds": (42,)}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, demo_waves: dict[str, np.ndarray]) -> Task:
    folder = tmp_path_factory.mktemp("tasks") / "toy-v1-full"
    return read_task(write_toy_task(folder, demo_waves), 16000)


@pytest.fixture(scope="module")
def splits(task: Task, hear_model: Embedder) -> Splits:
    return embed_task(task, LoadedSystem.of("one", hear_model))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Make sums repeatable."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Calls:
    """Embeddings that count how often they are asked for."""

    def __init__(self, splits: Splits) -> None:
        self.splits, self.n = splits, 0

    def __call__(self) -> Splits:
        self.n += 1
        return self.splits


def without_times(result: TaskResult) -> Any:
    """Leave out how long each training took."""
    text = json.dumps(asdict(result))
    return json.loads(text, object_hook=lambda d: {k: d[k] for k in d if k != "time_in_min"})


@pytest.mark.parametrize("protocol", [HEAREVAL, FAST], ids=lambda protocol: protocol.name)
def test_scores_are_those_of_evaluate_and_are_read_back_as_they_were(
    task: Task, splits: Splits, tmp_path: Path, protocol: ProbeRecipe
) -> None:
    path = tmp_path / "system" / "scores.json"
    scores = score(task, lambda: splits, protocol, path, "one", INPUTS)
    assert without_times(scores.result) == without_times(evaluate(task.metadata, splits, protocol))
    assert (scores.n_clips, scores.n_folds, scores.chance) == (18, 3, 0.5)
    assert Scores.read(path) == scores
    assert {file.name for file in path.parent.iterdir()} == {"scores.json", "scores.lock"}


def test_scoring_goes_on_after_the_probes_that_were_trained(
    task: Task, splits: Splits, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    expected = score(task, lambda: splits, HEAREVAL, path, "one", INPUTS)
    trainings = [replace(each, time_in_min=99) for each in expected.result.trainings]
    lines = [json.dumps(each) + "\n" for each in (INPUTS, *map(asdict, trainings))]
    path.unlink()
    begun = path.with_suffix(".trainings.jsonl")
    begun.write_text("".join(lines[:9]) + lines[9][:50])  # the grid, and half of the next fold's
    assert count_trainings(path) == 8
    found = score(task, lambda: splits, HEAREVAL, path, "one", INPUTS)
    assert without_times(found.result) == without_times(expected.result)
    first, *others = (fold.time_in_min for fold in found.result.runs[0].folds)
    assert first == 99 > max(others)
    assert not begun.exists()


def test_probes_that_were_trained_for_something_else_do_not_count(
    task: Task, splits: Splits, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    made = json.dumps(INPUTS | {"system": "another"})
    path.with_suffix(".trainings.jsonl").write_text(f"{made}\n{{}}\n")
    scores = score(task, lambda: splits, HEAREVAL, path, "one", INPUTS)
    assert len(scores.result.trainings) == n_trainings(task.metadata, HEAREVAL)


def test_what_is_there_is_not_made_again_but_for_something_else(
    task: Task, splits: Splits, tmp_path: Path
) -> None:
    path, calls = tmp_path / "scores.json", Calls(splits)
    first = score(task, calls, HEAREVAL, path, "one", INPUTS)
    assert score(task, calls, HEAREVAL, path, "one", INPUTS) == first
    assert calls.n == 1
    other = score(task, calls, HEAREVAL, path, "one", INPUTS | {"system": "another"})
    assert calls.n == 2
    assert other.inputs["system"] == "another"
    assert Scores.read(path) == other


def test_several_that_score_the_same_do_it_once(task: Task, splits: Splits, tmp_path: Path) -> None:
    path, calls, barrier = tmp_path / "scores.json", Calls(splits), Barrier(4)

    def one(number: int) -> Scores:
        barrier.wait()
        return score(task, calls, HEAREVAL, path, "one", INPUTS)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, range(4)))
    assert calls.n == 1
    assert found == [found[0]] * 4
    assert not path.with_suffix(".trainings.jsonl").exists()


def test_a_file_on_its_way_that_is_not_there_has_no_probes(tmp_path: Path) -> None:
    assert count_trainings(tmp_path / "scores.json") == 0


def test_an_event_task_has_no_level_of_chance(
    tmp_path: Path, demo_waves: dict[str, np.ndarray], hear_model: Embedder
) -> None:
    folder = write_toy_task(tmp_path / "toy-v1-full", demo_waves)
    make_events(folder, ["event_onset_200ms_fms", "segment_1s_er"], 0, 400)
    task = read_task(folder, 16000)
    embeddings = partial(embed_task, task, LoadedSystem.of("one", hear_model))
    scores = score(task, embeddings, HEAREVAL, tmp_path / "scores.json", "one", {})
    assert scores.chance is None
    (run,) = scores.result.runs
    assert all("test_segment_1s_er_error_rate" in fold.test for fold in run.folds)


def test_scores_of_an_earlier_build_count_unless_its_fast_probes_were_trained_otherwise(
    task: Task, splits: Splits, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    for recipe, counts in ((HEAREVAL, True), (FAST, False)):
        now = {"system": "one", "protocol": json.loads(json.dumps(asdict(recipe)))}
        score(task, lambda: splits, recipe, path, "one", now)
        stored = json.loads(path.read_text())
        earlier = stored.pop("inputs")
        earlier["protocol"]["bfloat16"] = earlier["protocol"].pop("batched")
        path.write_text(json.dumps(stored | {"made_of": earlier}))
        known = Scores.read(path)
        assert known is not None
        assert (known.inputs == now) is counts
        path.unlink()
