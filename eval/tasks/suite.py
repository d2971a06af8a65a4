"""The 18 HEAR tasks of the Audio Barlow Twins paper, and their metadata.

Scores are comparable with published ones only if a task folder has the metadata of its name, which
`differences` checks. The values are from the sources of hear-preprocess.

hearbenchmark.com/hear-tasks says where task folders come from: at 48000 Hz from Zenodo, and at
other rates from storage whose downloads the requester pays. Zenodo's record 6332517 is release
2021.3. Its archives are named after their task folders, which are below `tasks/` or, in some
releases, one folder deeper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from .metadata import POSTPROCESSING_GRID, TaskMetadata

RECORD = "https://zenodo.org/records/6332517"
ARCHIVE_RATE = 48000
PAID = "s3://hear2021-archive/tasks/ and gs://hear2021-archive/tasks/"
PAID_RATES = (16000, 22050, 32000, 44100)
CLIP_SCORES = ("top1_acc", "mAP", "d_prime", "aucroc")


@dataclass(frozen=True, kw_only=True)
class PaperTask:
    title: str
    """The paper's name."""
    folder: str
    """Name of the task folder, with version and mode."""
    n_labels: int
    duration_s: float | None
    """Length of every clip; None if they differ."""
    folds: int = 1
    """1 for fixed splits."""
    split_mode: str = "new_split_kfold"
    embedding_type: str = "scene"
    prediction_type: str = "multiclass"
    evaluation: tuple[str, ...] = CLIP_SCORES
    score_chooses: bool = True
    postprocessing_grid: Mapping[str, tuple[float, ...]] = field(
        default_factory=lambda: POSTPROCESSING_GRID
    )
    param_grid: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fewer_labels: bool = False
    """Whether the vocabulary may lack classes that do not occur."""
    hear_l: bool = False
    """Whether it is one of the five tasks of the paper's ablations, by its footnote."""


PAPER_TASKS = (
    PaperTask(title="CREMA-D", folder="tfds_crema_d-1.0.0-full", n_labels=6, duration_s=5, folds=5,
              hear_l=True),
    PaperTask(title="LibriCount", folder="libricount-v1.0.0-hear2021-full", n_labels=11,
              duration_s=5, folds=5, hear_l=True),
    PaperTask(title="Speech Commands 5h", folder="speech_commands-v0.0.2-5h", n_labels=12,
              duration_s=1, split_mode="trainvaltest", evaluation=("top1_acc",)),
    PaperTask(title="Speech Commands full", folder="speech_commands-v0.0.2-full", n_labels=12,
              duration_s=1, split_mode="trainvaltest", evaluation=("top1_acc",)),
    PaperTask(title="Vocal Imitations", folder="vocal_imitation-v1.1.3-full", n_labels=302,
              duration_s=11.26, folds=3, evaluation=("mAP", "d_prime", "aucroc", "top1_acc")),
    PaperTask(title="VoxLingua", folder="vox_lingua_top10-hear2021-full", n_labels=10,
              duration_s=18.64, folds=5),
    PaperTask(title="ESC-50", folder="esc50-v2.0.0-full", n_labels=50, duration_s=5, folds=5,
              split_mode="presplit_kfold", hear_l=True),
    PaperTask(title="FSD50K", folder="fsd50k-v1.0-full", n_labels=200, duration_s=None,
              split_mode="trainvaltest", prediction_type="multilabel",
              evaluation=("mAP", "d_prime", "aucroc", "top1_acc"), hear_l=True),
    PaperTask(title="Gunshot triangulation", folder="gunshot_triangulation-v1.0-full", n_labels=4,
              duration_s=1.5, folds=7),
    PaperTask(title="Beijing Opera", folder="beijing_opera-v1.0-hear2021-full", n_labels=4,
              duration_s=4.77, folds=5),
    PaperTask(title="GTZAN genre", folder="tfds_gtzan-1.0.0-full", n_labels=10, duration_s=30,
              folds=10, hear_l=True),
    PaperTask(title="GTZAN music/speech", folder="tfds_gtzan_music_speech-1.0.0-full", n_labels=2,
              duration_s=30, folds=10),
    PaperTask(title="Mridangam stroke", folder="mridangam_stroke-v1.5-full", n_labels=10,
              duration_s=0.81, folds=5),
    PaperTask(title="Mridangam tonic", folder="mridangam_tonic-v1.5-full", n_labels=6,
              duration_s=0.81, folds=5),
    PaperTask(title="NSynth 5h", folder="nsynth_pitch-v2.2.3-5h", n_labels=88, duration_s=4,
              split_mode="trainvaltest", evaluation=("pitch_acc", "chroma_acc")),
    PaperTask(title="NSynth 50h", folder="nsynth_pitch-v2.2.3-50h", n_labels=88, duration_s=4,
              split_mode="trainvaltest", evaluation=("pitch_acc", "chroma_acc")),
    PaperTask(title="DCASE 2016 task 2", folder="dcase2016_task2-hear2021-full", n_labels=11,
              duration_s=120, split_mode="trainvaltest", embedding_type="event",
              prediction_type="multilabel",
              evaluation=("event_onset_200ms_fms", "segment_1s_er")),
    PaperTask(title="MAESTRO 5h", folder="maestro-v3.0.0-5h", n_labels=88, duration_s=120, folds=5,
              embedding_type="event", prediction_type="multilabel",
              evaluation=("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
              score_chooses=False,
              postprocessing_grid={"median_filter_ms": (150,), "min_duration": (50,)},
              param_grid={"max_epochs": (50,), "check_val_every_n_epoch": (1,)},
              fewer_labels=True),
)  # fmt: skip


def paper_task(folder: str) -> PaperTask | None:
    return next((task for task in PAPER_TASKS if task.folder == folder), None)


def differences(metadata: TaskMetadata) -> list[str]:
    """List how metadata differs from that of the paper's task of the same name, if there is one."""
    task = paper_task(metadata.name)
    if task is None:
        return []
    found = {
        "embedding_type": (metadata.embedding_type, task.embedding_type),
        "prediction_type": (metadata.prediction_type, task.prediction_type),
        "split_mode": (metadata.split_mode, task.split_mode),
        "number of arrangements": (len(metadata.arrangements()), task.folds),
        "sample_duration": (metadata.sample_duration_s, task.duration_s),
        "evaluation": (metadata.evaluation, task.evaluation),
        "use_scoring_for_early_stopping": (metadata.score_chooses, task.score_chooses),
        "task_specific_param_grid": (metadata.param_grid, task.param_grid),
    }
    if metadata.is_event:
        found["event_postprocessing_grid"] = (
            metadata.postprocessing_grid, task.postprocessing_grid,
        )  # fmt: skip
    said = [f"{name} is {a!r}, not {b!r}" for name, (a, b) in found.items() if a != b]
    n_labels = len(metadata.labels)
    if n_labels > task.n_labels or (n_labels < task.n_labels and not task.fewer_labels):
        said.append(f"{n_labels} labels, not {task.n_labels}")
    return said


def how_to_get(missing: Sequence[PaperTask], tasks_dir: Path) -> list[str]:
    """Return lines that say how to get tasks, with a command that needs curl and GNU tar."""
    if not missing:
        return []
    archive = f"{RECORD}/files/hear2021-$task-{ARCHIVE_RATE}.tar.gz"
    unpack = f"tar xz -C {quote(str(tasks_dir))} --wildcards '*tasks/*'"
    rates = ", ".join(map(str, PAID_RATES))
    return [
        f"To get what is missing, at {ARCHIVE_RATE} Hz (resampled once, when it is first needed):",
        f"  for task in {' '.join(task.folder for task in missing)}; do",
        f"    curl -fL {archive} | {unpack} --transform 's,^.*tasks/,,'",
        "  done",
        f"All archives and their licences: {RECORD}",
        f"At {rates} Hz, the requester pays: {PAID}",
    ]
