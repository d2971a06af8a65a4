"""Time heareval and this project's protocols on the same embeddings.

    python tests/eval/oracle/bench.py VENV [THREADS] [WORD ...]

VENV is the environment that `make.py` made; the words choose sizes whose names contain one of them.
On one thread (the default): seconds of CPU, user and system, which say something under load, too.
On more: seconds on the clock. Both without imports and without reading embeddings. The last column
is the share of "here" that the float32 products of `here` alone take, which nothing that rounds as
heareval does can save.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from heareval_files import read_embedded
from toys import CLIP_SCORES, TOYS, Toy, folds, hyperparameters, write_toy

from audio_barlow_twins.eval.probe.evaluate import evaluate
from audio_barlow_twins.eval.probe.recipe import FAST, HEAREVAL, ProbeRecipe
from audio_barlow_twins.eval.tasks.task import read_metadata

WORDS = tuple(f"class{i:02d}" for i in range(50))
SHORT = {"evaluation_params": hyperparameters(max_epochs=12)}
FIVE_FOLDS = Toy(
    evaluation=CLIP_SCORES, splits=folds(5), rows=(40,) * 5, labels=WORDS[:6],
    split_mode="new_split_kfold", noise=4.0, d=32,
)  # fmt: skip
HALVES = Toy(evaluation=CLIP_SCORES, rows=(1200, 400, 400), labels=WORDS, d=3072, noise=20.0)
SIZES = {
    "5 x 40 clips, D 32": FIVE_FOLDS,
    "the same, easy: perfect validations": replace(FIVE_FOLDS, noise=1.0),
    "5 x 35 clips, D 3072": replace(FIVE_FOLDS, rows=(35,) * 5, labels=WORDS[:17], d=3072,
                                    noise=30.0, settings=SHORT),
    "1200 / 400 / 400 clips, D 3072, 50 classes": replace(
        HALVES, settings={"evaluation_params": hyperparameters(max_epochs=30)}),
    "5 x 1488 clips, D 768": replace(FIVE_FOLDS, rows=(1488,) * 5, d=768, noise=20.0,
                                     settings=SHORT),
    "3 x 500 clips, D 512, 300 classes, mAP": replace(
        FIVE_FOLDS, splits=folds(3), rows=(500,) * 3, d=512, noise=3.0, settings=SHORT,
        labels=tuple(f"class{i:03d}" for i in range(300)), evaluation=("mAP", "top1_acc")),
    "18 clips of 600 timestamps, D 128": replace(TOYS["dcase"], rows=(10, 4, 4), frames=600, d=128,
                                                 settings=SHORT),
}  # fmt: skip
# Prints the seconds of a task and nothing else; the output of heareval goes nowhere.
ASK = """
import os, sys, time
clock = getattr(time, sys.argv[3])
sys.path.insert(0, sys.argv[1])
import ask_heareval
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
started = clock()
ask_heareval.runner.callback([sys.argv[2]], gpus=None)
os.write(out, str(clock() - started).encode())
"""


def main() -> None:
    """Write a table of seconds and ratios."""
    home, threads, *words = sys.argv[1:] if len(sys.argv) > 2 else [sys.argv[1], "1"]
    torch.set_num_threads(int(threads))
    clock = "process_time" if threads == "1" else "perf_counter"
    python = Path(home).absolute() / "bin" / "python"
    sys.stdout.write(f"{'':44}{'heareval':>10}{'here':>10}{'ratio':>8}{'fast':>10}{'ratio':>8}"
                     f"{'products':>10}\n")  # fmt: skip
    for name, toy in SIZES.items():
        if words and not any(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "task"
            write_toy(folder, toy)
            theirs = heareval_seconds(python, folder, threads, clock)
            here, products = timed(folder, HEAREVAL, clock)
            fast, _ = timed(folder, FAST, clock)
        sys.stdout.write(f"{name:44}{theirs:10.1f}{here:10.1f}{theirs / here:8.1f}"
                         f"{fast:10.1f}{theirs / fast:8.1f}{products / here:10.0%}\n")  # fmt: skip
        sys.stdout.flush()


def heareval_seconds(python: Path, folder: Path, threads: str, clock: str) -> float:
    """Let heareval score a copy of the folder's embeddings."""
    ask = [python, "-c", ASK, Path(__file__).parent, folder, clock]
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(ask, env=environment, cwd=folder.parent, check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    return float(done.stdout)


def timed(folder: Path, protocol: ProbeRecipe, clock: str) -> tuple[float, float]:
    """Score the same embeddings here; return the seconds, and those of matrix products."""
    metadata = read_metadata(folder)
    splits = read_embedded(folder, metadata)
    now, products = getattr(time, clock), 0.0
    plain = {name: getattr(torch, name) for name in ("mm", "addmm")}

    def watched(name: str) -> Callable[..., torch.Tensor]:
        def product(*args: Any, **more: Any) -> torch.Tensor:
            nonlocal products
            begun = now()
            result = plain[name](*args, **more)
            products += now() - begun
            return result

        return product

    for name in plain:
        setattr(torch, name, watched(name))
    started = now()
    evaluate(metadata, splits, protocol)
    seconds = now() - started
    for name, function in plain.items():
        setattr(torch, name, function)
    return seconds, products


if __name__ == "__main__":
    main()
