"""Time heareval and this project's protocols on the same embeddings, one thread each.

    python tests/eval/oracle/bench.py VENV

VENV is the environment that `make.py` made. Seconds of CPU (user and system), without imports and
without reading embeddings.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from toys import CLIP_SCORES, TOYS, Toy, folds, hyperparameters, write_toy

from eval.evaluate import evaluate
from eval.protocol import FAST, HEAREVAL
from eval.stored_embeddings import read_embedded
from eval.task import read_metadata

WORDS = tuple(f"class{i:02d}" for i in range(50))
SHORT = {"evaluation_params": hyperparameters(max_epochs=12)}
FIVE_FOLDS = Toy(
    evaluation=CLIP_SCORES, splits=folds(5), rows=(40,) * 5, labels=WORDS[:6],
    split_mode="new_split_kfold", noise=4.0, d=32,
)  # fmt: skip
SIZES = {
    "5 x 40 clips, D 32": FIVE_FOLDS,
    "5 x 35 clips, D 3072": replace(FIVE_FOLDS, rows=(35,) * 5, labels=WORDS[:17], d=3072,
                                    noise=30.0, settings=SHORT),
    "5 x 400 clips, D 3072": replace(FIVE_FOLDS, rows=(400,) * 5, labels=WORDS, d=3072,
                                     noise=20.0, settings=SHORT),
    "5 x 1488 clips, D 768": replace(FIVE_FOLDS, rows=(1488,) * 5, d=768, noise=20.0,
                                     settings=SHORT),
    "18 clips of 600 timestamps, D 128": replace(TOYS["dcase"], rows=(10, 4, 4), frames=600, d=128,
                                                 settings=SHORT),
}  # fmt: skip
# Prints the CPU seconds of a task and nothing else; the output of heareval goes nowhere.
ASK = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import ask_heareval
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
started = time.process_time()
ask_heareval.runner.callback([sys.argv[2]], gpus=None)
os.write(out, str(time.process_time() - started).encode())
"""


def main() -> None:
    """Write a table of seconds and ratios."""
    torch.set_num_threads(1)
    python = Path(sys.argv[1]).absolute() / "bin" / "python"
    sys.stdout.write(f"{'':36}{'heareval':>10}{'here':>10}{'ratio':>8}{'fast':>10}{'ratio':>8}\n")
    for name, toy in SIZES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "task"
            write_toy(folder, toy)
            theirs = heareval_seconds(python, folder)
            here, fast = (seconds(folder, protocol) for protocol in (HEAREVAL, FAST))
        sys.stdout.write(f"{name:36}{theirs:10.1f}{here:10.1f}{theirs / here:8.1f}"
                         f"{fast:10.1f}{theirs / fast:8.1f}\n")  # fmt: skip
        sys.stdout.flush()


def heareval_seconds(python: Path, folder: Path) -> float:
    """Let heareval score a copy of the folder's embeddings."""
    ask = [python, "-c", ASK, Path(__file__).parent, folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(ask, env=environment, cwd=folder.parent, check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    return float(done.stdout)


def seconds(folder: Path, protocol) -> float:
    """Score the same embeddings here."""
    metadata = read_metadata(folder)
    splits = read_embedded(folder, metadata)
    started = time.process_time()
    evaluate(metadata, splits, protocol)
    return time.process_time() - started


if __name__ == "__main__":
    main()
