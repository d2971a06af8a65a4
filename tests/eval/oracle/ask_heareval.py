"""Run in heareval's environment: score the toy tasks and some random predictions with it.

python ask_heareval.py FIXTURES SCRATCH
"""

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

# heareval's checkpoints hold classes, which torch refuses to load since 2.6.
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from heareval.predictions.runner import runner  # noqa: E402
from heareval.score import available_scores  # noqa: E402
from pytorch_lightning.loops import FitLoop  # noqa: E402

# heareval sets the epoch of the fit loop before it tests, to find that epoch's post-processing.
# Lightning 1.6 let it; 1.9 keeps the epoch elsewhere.
FitLoop.current_epoch = property(
    lambda loop: loop.epoch_progress.current.completed,
    lambda loop, epoch: setattr(loop.epoch_progress.current, "completed", epoch),
)

LABELS = ("a", "b", "c")
SCENE_SCORES = ("top1_acc", "chroma_acc", "mAP", "d_prime", "aucroc")
EVENT_SCORES = (
    "event_onset_200ms_fms",
    "event_onset_50ms_fms",
    "event_onset_offset_50ms_20perc_fms",
    "segment_1s_er",
)


def main() -> None:
    """Write what heareval says beside the toy tasks, and to two files of scores."""
    fixtures, scratch = map(Path, sys.argv[1:])
    for task in sorted((fixtures / "tasks").iterdir()):
        copy = scratch / task.name
        shutil.copytree(task, copy)
        runner.callback([str(copy)], gpus=None)
        said = json.loads((copy / "test.predicted-scores.json").read_text())
        del said["embedding_path"]
        write(task / "heareval.json", said)
    rng = np.random.default_rng(0)
    write(fixtures / "scene_scores.json", [ask_scene(rng, i) for i in range(30)])
    write(fixtures / "event_scores.json", [ask_events(rng, i) for i in range(60)])
    write(fixtures / "about.json", about())


def write(path: Path, content: Any) -> None:
    """Write JSON; lists of cases on a line each."""
    if isinstance(content, list):
        text = "[\n" + ",\n".join(json.dumps(case) for case in content) + "\n]\n"
    else:
        text = json.dumps(content, indent=1) + "\n"
    path.write_text(text)


def ask_scene(rng: np.random.Generator, case: int) -> dict[str, Any]:
    """Score random probabilities; some cases lack a class, in some all clips have one."""
    n, n_labels = int(rng.integers(4, 30)), int(rng.integers(2, 15))
    if case % 2:
        targets = np.eye(n_labels)[rng.integers(n_labels, size=n)]
    else:
        targets = (rng.random((n, n_labels)) < rng.choice([0.1, 0.5, 0.8])).astype(float)
        targets[0, 0] = 1
    # Few distinct values make ties.
    predictions = rng.random((n, n_labels)).round(int(rng.integers(1, 5)))
    scores = {name: available_scores[name](label_to_idx={}) for name in SCENE_SCORES}
    return {
        "targets": targets.astype(int).tolist(),
        "predictions": predictions.tolist(),
        "scores": {name: score(predictions, targets) for name, score in scores.items()},
    }


def ask_events(rng: np.random.Generator, case: int) -> dict[str, Any]:
    """Score random events: times on a grid, so that collars are met exactly, and off it."""
    grid_ms = (0.1, 50.0, 250.0, 1000.0)[case % 4]
    files = [f"{i}.wav" for i in range(int(rng.integers(1, 4)))]
    most = (0, 3, 15, 40)[int(rng.integers(4))]
    estimated = {file: random_events(rng, most, grid_ms) for file in files}
    reference = {file: random_events(rng, 15, grid_ms) for file in files}
    if case % 5 == 0:
        reference["unheard.wav"] = random_events(rng, 5, grid_ms)
    index = {label: i for i, label in enumerate(LABELS)}
    return {
        "reference": reference,
        "estimated": estimated,
        "scores": {
            name: dict(available_scores[name](label_to_idx=index)(estimated, reference))
            for name in EVENT_SCORES
        },
    }


def random_events(rng: np.random.Generator, most: int, grid_ms: float) -> list[dict[str, Any]]:
    """Draw up to `most` events in ten seconds; some have no length."""
    events = []
    for _ in range(int(rng.integers(most + 1))):
        start = round(round(rng.uniform(0, 9000) / grid_ms) * grid_ms, 1)
        length = round(round(rng.exponential(400) / grid_ms) * grid_ms, 1)
        label = LABELS[rng.integers(len(LABELS))]
        events.append({"label": label, "start": start, "end": start + length})
    return events


def about() -> dict[str, Any]:
    """Say where the numbers were rounded."""
    packages = ("heareval", "pytorch-lightning", "scikit-learn", "sed_eval", "numpy")
    model = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("vendor_id", "cpu family", "model\t"))
    ]
    return {
        "torch": torch.__version__.split("+")[0],
        "cpu": model[:3],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
