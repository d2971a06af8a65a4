"""The whole protocol against what the real heareval 2021.1.3 said of the same embeddings.

`oracle/make.py` made the toy tasks and asked heareval. Equality takes the rounding of the machine
that made them (`oracle/about.json`); elsewhere the scores agree on average.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heareval_files import read_embedded

from audio_barlow_twins.eval.embed.embedded import Embedded
from audio_barlow_twins.eval.probe.evaluate import evaluate, n_trainings
from audio_barlow_twins.eval.probe.recipe import FAST, HEAREVAL, ROBUST
from audio_barlow_twins.eval.probe.result import TaskResult, Training
from audio_barlow_twins.eval.probe.split_scorer import SplitScorer
from audio_barlow_twins.eval.tasks.metadata import TaskMetadata
from audio_barlow_twins.eval.tasks.task import read_metadata

ORACLE = Path(__file__).parents[1] / "oracle"
TOYS = sorted(folder.name for folder in (ORACLE / "tasks").iterdir())
SLOW = ("dcase", "multilabel", "scene")
EACH_TOY = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TOYS]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rounds_like_the_oracle() -> bool:
    """Tell whether sums are rounded here as where the fixtures were made."""
    about = json.loads((ORACLE / "about.json").read_text())
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    kinds = ("vendor_id", "cpu family", "model\t")
    cpu = [line.split(":")[1].strip() for line in lines if line.startswith(kinds)]
    here = (torch.__version__.split("+")[0], cpu[:3], torch.backends.cpu.get_cpu_capability())
    return here == (about["torch"], about["cpu"], about["cpu_capability"])


def toy(name: str) -> tuple[TaskMetadata, dict[str, Embedded]]:
    metadata = read_metadata(ORACLE / "tasks" / name)
    return metadata, read_embedded(ORACLE / "tasks" / name, metadata)


@cache
def evaluated(name: str) -> TaskResult:
    return evaluate(*toy(name))


def said_of(name: str) -> dict[str, Any]:
    return json.loads((ORACLE / "tasks" / name / "heareval.json").read_text())


@pytest.mark.skipif(not rounds_like_the_oracle(), reason="the fixtures are of another machine")
@pytest.mark.parametrize("name", EACH_TOY)
def test_all_that_heareval_reports_is_equal(name: str) -> None:
    said, result = said_of(name), evaluated(name)
    got = result.runs[0].as_heareval(result.score_mode)
    assert got.keys() == said.keys()
    for part in said.keys() - {"hparams", "postprocessing", "score_mode"}:
        numbers = {k: v for k, v in said[part].items() if not k.startswith("time_in_min")}
        assert {k: got[part][k] for k in numbers} == pytest.approx(numbers, abs=1e-6, nan_ok=True)
    assert got["score_mode"] == said["score_mode"]
    assert got["postprocessing"] == said["postprocessing"]
    for key, value in got["hparams"].items():
        assert str(value) in str(said["hparams"][key])


@pytest.mark.slow
def test_test_scores_are_hearevals_on_average_wherever_it_runs() -> None:
    gaps = []
    for name in TOYS:
        said, (run,) = said_of(name), evaluated(name).runs
        whole = said.get("aggregated_scores", said.get("test"))
        expected = whole.get("test_score", whole.get("test_score_mean"))
        assert math.isnan(expected) == math.isnan(run.test_score)
        gaps.append(abs(run.test_score - expected))
    assert np.nanmean(gaps) < 0.01


def without_times(result: TaskResult) -> list[Training]:
    return [replace(training, time_in_min=0) for training in result.trainings]


@pytest.mark.parametrize(
    "protocol", [HEAREVAL, pytest.param(ROBUST, marks=pytest.mark.slow)], ids=lambda p: p.name
)
def test_an_interrupted_evaluation_goes_on_from_json_with_the_same_result(protocol) -> None:
    metadata, splits = toy("maestro")
    kept: list[Training] = []
    whole = evaluate(metadata, splits, protocol, progress=kept.append)
    assert len(kept) == n_trainings(metadata, protocol)
    for done in (1, 9):
        stored = [json.loads(json.dumps(asdict(training))) for training in kept[:done]]
        later: list[Training] = []
        finished = [Training.from_json(values) for values in stored]
        again = evaluate(metadata, splits, protocol, finished, later.append)
        assert without_times(again) == without_times(whole)
        assert len(later) == len(kept) - done


def test_finished_trainings_of_something_else_are_refused() -> None:
    metadata, splits = toy("silent")
    (run,) = evaluated("silent").runs
    with pytest.raises(ValueError, match="a finished training is of"):
        evaluate(metadata, splits, HEAREVAL, run.tried[1:])


def test_torchs_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    evaluate(*toy("silent"))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_of_equally_good_points_is_chosen() -> None:
    (run,) = evaluated("silent").runs
    assert len({training.validation_score for training in run.tried}) == 1
    assert run.folds == (run.tried[0],)


def test_epochs_left_out_after_a_perfect_validation_change_no_number(monkeypatch) -> None:
    metadata, splits = toy("folds")
    easy = {
        name: Embedded(torch.cat([part.embeddings, 9 * part.targets], dim=1), part.targets)
        for name, part in splits.items()
    }
    result = evaluate(metadata, easy)
    assert 1.0 in {training.validation_score for training in result.trainings}
    validate = SplitScorer.validate
    monkeypatch.setattr(
        SplitScorer,
        "validate",
        lambda judge, network: replace(validate(judge, network), perfect=False),
    )
    assert without_times(evaluate(metadata, easy)) == without_times(result)


def test_points_that_an_earlier_one_beats_are_not_tested() -> None:
    (run,) = evaluated("maestro").runs
    best = math.inf  # Chosen by the loss.
    for training in run.tried:
        assert bool(training.test) == (training.validation_score < best)
        best = min(best, training.validation_score)
    assert all(training.test for training in run.folds)


def test_a_robust_score_is_the_mean_over_seeds_that_each_choose_for_themselves() -> None:
    metadata, splits = toy("folds")
    result = evaluate(metadata, splits, ROBUST)
    assert [run.seed for run in result.runs] == list(ROBUST.seeds)
    scores = [np.mean([fold.test["test_top1_acc"] for fold in run.folds]) for run in result.runs]
    assert len(set(scores)) > 1
    assert result.mean == pytest.approx(np.mean(scores))
    assert result.std == pytest.approx(np.std(scores, ddof=1))
    # Of 150 clips in six classes; a seed moves the score by 0.05.
    assert result.mean == pytest.approx(evaluated("folds").mean, abs=0.15)


def test_the_fast_protocol_comes_near() -> None:
    metadata, splits = toy("folds")
    fast, exact = evaluate(metadata, splits, replace(FAST, seeds=(0, 1, 2))), evaluated("folds")
    assert fast.mean == pytest.approx(exact.mean, abs=0.15)
    validated = [
        np.mean([training.validation_score for training in result.trainings])
        for result in (fast, exact)
    ]
    assert validated[0] == pytest.approx(validated[1], abs=0.05)


def test_folds_that_are_nan_are_left_out_of_the_mean() -> None:
    (run,) = evaluated("maestro").runs
    first, *others = run.folds
    unknown = replace(first, test={**first.test, "test_score": math.nan})
    holed = replace(run, folds=(unknown, *others))
    rest = [fold.test["test_score"] for fold in others]
    assert holed.test_score == pytest.approx(np.mean(rest))
    summary = holed.as_heareval("min")["aggregated_scores"]
    assert summary["test_score_mean"] == pytest.approx(np.mean(rest))
    assert summary["test_score_std"] == pytest.approx(np.std(rest, ddof=1))


def test_folds_that_are_infinite_have_no_deviation_and_no_warning() -> None:
    (run,) = evaluated("maestro").runs
    first, *others = run.folds
    endless = replace(first, test={**first.test, "test_score": -math.inf})
    summary = replace(run, folds=(endless, *others)).as_heareval("min")["aggregated_scores"]
    assert summary["test_score_mean"] == -math.inf
    assert math.isnan(summary["test_score_std"])


def test_a_single_arrangement_and_seed_have_no_deviation() -> None:
    assert evaluated("silent").std is None
