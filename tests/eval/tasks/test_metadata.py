from typing import Any

import pytest

from audio_barlow_twins.eval.probe.event_scores import EVENT_SCORES
from audio_barlow_twins.eval.probe.scores import SCENE_SCORES
from audio_barlow_twins.eval.tasks.metadata import (
    KNOWN_SCORES,
    Arrangement,
    TaskError,
    TaskMetadata,
    parse_metadata,
)

SCENE: dict[str, Any] = {
    "task_name": "toy",
    "embedding_type": "scene",
    "prediction_type": "multiclass",
    "split_mode": "new_split_kfold",
    "splits": ["fold02", "fold00", "fold03", "fold01"],
    "sample_duration": 1.0,
    "evaluation": ["top1_acc", "mAP"],
}
EVENT: dict[str, Any] = {
    "task_name": "toy",
    "embedding_type": "event",
    "prediction_type": "multilabel",
    "split_mode": "trainvaltest",
    "splits": ["train", "valid", "test"],
    "evaluation": ["event_onset_200ms_fms", "segment_1s_er"],
}


def parsed(raw: dict[str, Any], **changes: Any) -> TaskMetadata:
    return parse_metadata(raw | changes, "toy-v1-full", ["a", "b"], "task_metadata.json")


@pytest.mark.parametrize("mode", ["new_split_kfold", "presplit_kfold"])
def test_each_fold_tests_once_and_the_next_one_validates(mode: str) -> None:
    assert parsed(SCENE, split_mode=mode).arrangements() == (
        Arrangement(train=("fold02", "fold03"), valid="fold01", test="fold00"),
        Arrangement(train=("fold00", "fold03"), valid="fold02", test="fold01"),
        Arrangement(train=("fold00", "fold01"), valid="fold03", test="fold02"),
        Arrangement(train=("fold01", "fold02"), valid="fold00", test="fold03"),
    )


def test_a_fixed_split_has_one_arrangement() -> None:
    assert parsed(EVENT).arrangements() == (
        Arrangement(train=("train",), valid="valid", test="test"),
    )


def test_a_task_that_says_nothing_is_chosen_by_its_first_score() -> None:
    metadata = parsed(EVENT)
    assert metadata.score_chooses
    assert metadata.score_mode == "max"
    assert metadata.postprocessing_grid == {"median_filter_ms": (250,), "min_duration": (125, 250)}


def test_an_error_rate_and_a_loss_are_best_at_their_minimum() -> None:
    assert parsed(EVENT, evaluation=["segment_1s_er"]).score_mode == "min"
    fixed = {"event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50]}}
    by_loss = parsed(EVENT, use_scoring_for_early_stopping=False, evaluation_params=fixed)
    assert by_loss.score_mode == "min"


def test_a_task_may_set_hyperparameters() -> None:
    params = {"task_specific_param_grid": {"max_epochs": [50], "check_val_every_n_epoch": [1]}}
    metadata = parsed(EVENT, evaluation_params=params)
    assert metadata.param_grid == {"max_epochs": (50,), "check_val_every_n_epoch": (1,)}


@pytest.mark.parametrize(
    ("raw", "changes", "message"),
    [
        (SCENE, {"embedding_type": "smell"}, "embedding_type is 'smell'"),
        (SCENE, {"prediction_type": "regression"}, "prediction_type is 'regression'"),
        (SCENE, {"split_mode": None}, "split_mode is None"),
        (SCENE, {"sample_duration": "1.0"}, "sample_duration is '1.0'; wanted seconds"),
        (SCENE, {"splits": ["fold00", "fold01"]}, "2 folds; at least 3"),
        (SCENE, {"splits": ["fold00"] * 3}, "each name once"),
        (SCENE, {"split_mode": "trainvaltest"}, "wanted train, valid, test"),
        (SCENE, {"evaluation": []}, "evaluation is"),
        (SCENE, {"evaluation": ["loudness"]}, "score 'loudness' of scene tasks"),
        (SCENE, {"evaluation": ["segment_1s_er"]}, "score 'segment_1s_er' of scene tasks"),
        (EVENT, {"prediction_type": "multiclass"}, "only multilabel"),
        (EVENT, {"use_scoring_for_early_stopping": False}, "must be fixed"),
        (
            EVENT,
            {"evaluation_params": {"event_postprocessing_grid": {"threshold": [0.5]}}},
            "sets threshold; wanted median_filter_ms, min_duration",
        ),
        (
            EVENT,
            {"evaluation_params": {"task_specific_param_grid": {"lr": 1e-3}}},
            "wanted names with lists",
        ),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(
    raw: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        parsed(raw, **changes)


def test_every_score_that_a_task_may_name_can_be_computed_and_no_other() -> None:
    assert set(KNOWN_SCORES["scene"]) == SCENE_SCORES.keys()
    assert set(KNOWN_SCORES["event"]) == EVENT_SCORES.keys()
