"""Compare the scores of `--protocol fast` with those of `--protocol heareval`.

    python tests/eval/oracle/agreement.py ROUNDS [UNITS ...]

Synthetic tasks of middling difficulty, the whole grid, 256 and 1,024 units, one more seed each
round. Three columns, in points: heareval; the same but that every training has a seed of its own;
fast, which besides trains all at once and rounds to bfloat16 where the device has it. The last two
start from the same weights. Differences are means over tasks and seeds, with their standard errors.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from heareval_files import read_embedded
from toys import CLIP_SCORES, TOYS, Toy, write_toy

from audio_barlow_twins.eval.probe.evaluate import evaluate
from audio_barlow_twins.eval.probe.recipe import FAST, HEAREVAL
from audio_barlow_twins.eval.tasks.task import read_metadata

WORDS = tuple(f"class{i:02d}" for i in range(50))
# Many clips to choose and to test by, so that chance says less.
CLASSES = Toy(
    evaluation=CLIP_SCORES, rows=(240, 400, 800), labels=WORDS[:6], d=128, noise=5.0,
)  # fmt: skip
TASKS = {
    "6 classes, D 128": CLASSES,
    "10 classes, D 768": replace(CLASSES, labels=WORDS[:10], d=768, noise=6.0),
    "25 classes, D 256": replace(CLASSES, labels=WORDS[:25], d=256, noise=3.0),
    "50 classes, D 512": replace(CLASSES, labels=WORDS, d=512, noise=3.0),
    "8 labels, D 256": replace(CLASSES, labels=WORDS[:8], d=256, noise=5.0,
                               prediction_type="multilabel", evaluation=("mAP", "aucroc")),
    "events chosen by the loss, 3 x 3 clips, D 64": replace(TOYS["maestro"], frames=100, d=64),
    "events chosen by the score, D 64": replace(TOYS["dcase"], frames=100, d=64, noise=2.0),
}  # fmt: skip
RECIPES = (HEAREVAL, replace(HEAREVAL, chained=False), FAST)


def main() -> None:
    """Write a table after every round."""
    torch.set_num_threads(1)
    rounds, *widths = map(int, sys.argv[1:])
    sets = [(name, units) for units in widths or (256, 1024) for name in TASKS]
    scores: dict[tuple[str, int], list[list[float]]] = {each: [] for each in sets}
    for seed in range(rounds):
        for name, units in sets:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / f"task{seed}"
                write_toy(folder, TASKS[name])
                metadata = read_metadata(folder)
                splits = read_embedded(folder, metadata)
            grid = {**metadata.param_grid, "hidden_dim": (units,)}
            wanted = replace(metadata, param_grid=grid)
            recipes = [replace(recipe, seeds=(seed,)) for recipe in RECIPES]
            scores[name, units].append([100 * evaluate(wanted, splits, r).mean for r in recipes])
        sys.stdout.write(f"{'':46}{'heareval':>9}{'seeded':>9}{'fast':>9}"
                         f"{'- heareval':>18}{'- seeded':>18}\n")  # fmt: skip
        for (name, units), rows in scores.items():
            write_row(f"{name}, {units} units", np.array(rows))
        write_row("all", np.array([row for rows in scores.values() for row in rows]))
        sys.stdout.write("\n")
        sys.stdout.flush()


def write_row(name: str, scores: np.ndarray) -> None:
    """Write means over scores [n, 3] and how far the last is from the others."""
    row = f"{name:46}" + "".join(f"{mean:9.2f}" for mean in scores.mean(axis=0))
    for other in (0, 1):
        gaps = scores[:, 2] - scores[:, other]
        error = gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else np.nan
        row += f"{gaps.mean():10.2f} +- {error:4.2f}"
    sys.stdout.write(row + "\n")


if __name__ == "__main__":
    main()
