"""Evaluations during a run: effective rank of the embeddings, cross-correlation, probe."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.files import replacing

from ..step.trainer import Trainer

if TYPE_CHECKING:
    from .probe import Probe

log = logging.getLogger(__name__)

LOOKS = 12
"""Evaluations over a run if the config does not say how often."""
CORNER = 64
"""Features of the cross-correlation that each evaluation stores."""
SAME = 1e-3
"""Spread of embeddings, relative to their length, below which they count as equal."""
LEAST_RANK = 2.0
"""Effective rank below which a run counts as collapsed."""


def look_steps(total_steps: int, steps_per_epoch: float, every_epochs: float) -> frozenset[int]:
    """Return the steps after which to evaluate, with the last; 0 epochs: LOOKS steps."""
    every = every_epochs * steps_per_epoch or total_steps / LOOKS
    count = int(total_steps / every + 1e-9)
    found = {max(1, round(k * every)) for k in range(1, count + 1)}
    return frozenset(found | {total_steps})


def effective_rank(embeddings: Tensor) -> float:
    """Return along how many directions embeddings [N, D] vary (Roy and Vetterli, 2007).

    It is exp of the entropy of the singular values of the centred embeddings, from 1 to min(N, D);
    0 if all embeddings are the same.
    """
    values = embeddings.detach().cpu().double()
    centred = values - values.mean(dim=0)
    if float(centred.norm()) <= SAME * float(values.norm()):
        return 0.0
    singular = torch.linalg.svdvals(centred)
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp())


class Evaluation:
    """Evaluate a run at fixed steps: effective rank, cross-correlation, scores of a probe.

    The folder is None except on rank 0.

    Raises:
        AgreedError: a task of the probe cannot be used.
    """

    def __init__(self, trainer: Trainer, folder: Path | None) -> None:
        self.trainer, self.folder = trainer, folder
        config = trainer.config
        self.steps = look_steps(trainer.total_steps, trainer.steps_per_epoch, config.look_epochs)
        self.probe: Probe | None = None
        trainer.ranks.from_first(self._open_probe)

    @property
    def due(self) -> bool:
        """Whether to evaluate after the step that was taken last."""
        return self.trainer.step in self.steps

    def look(self) -> dict[str, float]:
        """Return fields for metrics.jsonl, {} if none are due; all processes must call it."""
        trainer = self.trainer
        if not self.due or trainer.latest is None:
            return {}
        mine = trainer.latest.embeddings.float()
        embeddings = trainer.ranks.gather(mine, trainer.config.batch)
        if not self.folder:
            return {}
        rank = effective_rank(embeddings)
        keep_correlation(self.folder, trainer.step, trainer.latest.correlation)
        if collapse := name_collapse(rank):
            log.warning("step %d: %s", trainer.step, collapse)
        scores = self.probe.scores(trainer.checkpoint()) if self.probe else {}
        return {"effective_rank": rank} | scores

    def _open_probe(self) -> None:
        config, trainer = self.trainer.config, self.trainer
        if config.probe_tasks:
            from .probe import Probe  # needs libsndfile, which other training does not

            made_of = trainer.checkpoint()
            self.probe = Probe(config.probe_tasks, config.probe, made_of, trainer.device)


def name_collapse(rank: float) -> str:
    """Describe the collapse that an effective rank shows; '' if there is none."""
    if rank == 0:
        return "complete collapse: all clips get the same embedding"
    if rank < LEAST_RANK:
        return f"dimensional collapse: embeddings vary along about {rank:.1f} direction(s)"
    return ""


def keep_correlation(run: Path, step: int, correlation: Tensor) -> None:
    """Store the first CORNER rows and columns of a cross-correlation [D, D] for the picture."""
    folder = run / "correlations"
    folder.mkdir(exist_ok=True)
    corner = correlation[:CORNER, :CORNER].float().cpu().numpy().astype(np.float16)
    with replacing(folder / f"{step:09d}.npy") as scratch, scratch.open("wb") as file:
        np.save(file, corner)
