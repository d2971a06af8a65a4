"""A HEAR task's metadata: kind of embedding and prediction, splits, scores, settings.

Reads `task_metadata.json` as hear-preprocess writes it and heareval 2021.1.3 reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audio_barlow_twins.shards.base.errors import UserError

FOLD_MODES = ("new_split_kfold", "presplit_kfold")
SPLIT_MODES = ("trainvaltest", *FOLD_MODES)
FIXED_SPLITS = ("train", "valid", "test")
KNOWN_SCORES = {
    "scene": ("top1_acc", "pitch_acc", "chroma_acc", "mAP", "d_prime", "aucroc"),
    "event": (
        "event_onset_200ms_fms",
        "event_onset_50ms_fms",
        "event_onset_offset_50ms_20perc_fms",
        "segment_1s_er",
    ),
}
MINIMISED_SCORES = ("segment_1s_er",)
# heareval's grid for event tasks whose metadata has none.
POSTPROCESSING_GRID = {"median_filter_ms": (250.0,), "min_duration": (125.0, 250.0)}


class TaskError(UserError):
    """A task folder cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """The splits that train, validate and test one probe."""

    train: tuple[str, ...]
    valid: str
    test: str


@dataclass(frozen=True, kw_only=True)
class TaskMetadata:
    name: str
    """Name of the folder, with version and mode."""
    task_name: str
    """Name without version and mode."""
    embedding_type: str
    """"scene": one embedding for each clip; "event": one for each timestamp, to detect events."""
    prediction_type: str
    """"multiclass": one class for each clip; "multilabel": any number."""
    split_mode: str
    splits: tuple[str, ...]
    evaluation: tuple[str, ...]
    """Names of the scores; the first is reported and selects the probe."""
    labels: tuple[str, ...]
    """Vocabulary in the order of its indices."""
    sample_duration_s: float | None = None
    """Length of every clip; None if they differ."""
    score_chooses: bool = True
    """Whether the first score, not the loss, on validation clips stops and selects the probe."""
    postprocessing_grid: Mapping[str, tuple[float, ...]] = field(
        default_factory=lambda: POSTPROCESSING_GRID
    )
    """Event tasks: `median_filter_ms` and `min_duration` (ms) to try."""
    param_grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Hyperparameters that the task sets instead of the protocol, by heareval's names."""

    @property
    def multilabel(self) -> bool:
        return self.prediction_type == "multilabel"

    @property
    def is_event(self) -> bool:
        return self.embedding_type == "event"

    @property
    def score_mode(self) -> str:
        """Return "max" or "min", at which the number that selects the probe is best."""
        minimised = not self.score_chooses or self.evaluation[0] in MINIMISED_SCORES
        return "min" if minimised else "max"

    def arrangements(self) -> tuple[Arrangement, ...]:
        """List the splits of each probe to train, as in heareval.

        Of k sorted folds, fold i tests, fold i + 1 (cyclically) validates, the others train.
        """
        if self.split_mode not in FOLD_MODES:
            return (Arrangement(train=("train",), valid="valid", test="test"),)
        folds = sorted(self.splits)
        arranged = []
        for i, test in enumerate(folds):
            valid = folds[(i + 1) % len(folds)]
            train = tuple(fold for fold in folds if fold not in (test, valid))
            arranged.append(Arrangement(train=train, valid=valid, test=test))
        return tuple(arranged)


def parse_metadata(
    raw: Mapping[str, Any], name: str, labels: Sequence[str], where: str
) -> TaskMetadata:
    """Parse and check the content of `task_metadata.json`.

    Args:
        raw: its content.
        name: of the task folder.
        labels: the vocabulary.
        where: the file, for messages.
    """
    kind = _one_of(raw, "embedding_type", (*KNOWN_SCORES,), where)
    evaluation = _words(raw, "evaluation", where)
    if unknown := [score for score in evaluation if score not in KNOWN_SCORES[kind]]:
        known = ", ".join(KNOWN_SCORES[kind])
        raise TaskError(f"{where}: score {unknown[0]!r} of {kind} tasks; wanted one of {known}")
    params = raw.get("evaluation_params", {})
    metadata = TaskMetadata(
        name=name,
        task_name=raw.get("task_name", name),
        embedding_type=kind,
        prediction_type=_one_of(raw, "prediction_type", ("multiclass", "multilabel"), where),
        split_mode=_one_of(raw, "split_mode", SPLIT_MODES, where),
        splits=_words(raw, "splits", where),
        evaluation=evaluation,
        labels=tuple(labels),
        sample_duration_s=_duration(raw, where),
        score_chooses=bool(raw.get("use_scoring_for_early_stopping", True)),
        postprocessing_grid=_lists(
            params.get("event_postprocessing_grid", POSTPROCESSING_GRID),
            "event_postprocessing_grid",
            where,
        ),
        param_grid=_lists(
            params.get("task_specific_param_grid", {}), "task_specific_param_grid", where
        ),
    )
    _check_kind(metadata, where)
    _check_postprocessing(metadata, where)
    return metadata


def _check_kind(metadata: TaskMetadata, where: str) -> None:
    """Refuse kinds that heareval cannot score and splits that cannot be arranged."""
    splits = metadata.splits
    if metadata.is_event and not metadata.multilabel:
        raise TaskError(f"{where}: an event task is multiclass; only multilabel ones are known")
    if len(set(splits)) != len(splits):
        raise TaskError(f"{where}: splits are {', '.join(splits)}; wanted each name once")
    if metadata.split_mode in FOLD_MODES and len(splits) < 3:
        raise TaskError(f"{where}: {len(splits)} folds; at least 3 are needed")
    if metadata.split_mode == "trainvaltest" and set(splits) != {*FIXED_SPLITS}:
        raise TaskError(f"{where}: splits are {', '.join(splits)}; wanted train, valid, test")


def _check_postprocessing(metadata: TaskMetadata, where: str) -> None:
    """Refuse a grid with other settings, or with several values where no score selects one."""
    grid = metadata.postprocessing_grid
    if grid.keys() != POSTPROCESSING_GRID.keys():
        wanted = ", ".join(POSTPROCESSING_GRID)
        raise TaskError(f"{where}: post-processing sets {', '.join(grid)}; wanted {wanted}")
    if not metadata.score_chooses and any(len(values) > 1 for values in grid.values()):
        raise TaskError(f"{where}: the loss chooses the probe, so post-processing must be fixed")


def _duration(raw: Mapping[str, Any], where: str) -> float | None:
    duration = raw.get("sample_duration")
    if duration is not None and not isinstance(duration, int | float):
        raise TaskError(f"{where}: sample_duration is {duration!r}; wanted seconds, or null")
    return duration


def _one_of(raw: Mapping[str, Any], key: str, choices: Sequence[str], where: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or value not in choices:
        raise TaskError(f"{where}: {key} is {value!r}; wanted one of {', '.join(choices)}")
    return value


def _words(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = raw.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise TaskError(f"{where}: {key} is {value!r}; wanted a list of names")
    return tuple(value)


def _lists(value: Any, key: str, where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, Mapping) or not all(
        isinstance(v, list | tuple) and v for v in value.values()
    ):
        raise TaskError(f"{where}: {key} is {value!r}; wanted names with lists of values")
    return {name: tuple(values) for name, values in value.items()}
