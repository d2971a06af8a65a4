"""Progress bar, metrics.jsonl and TensorBoard of a run, written by its first process."""

import logging
import resource
import sys
from typing import TYPE_CHECKING, Self

import torch
from tqdm import tqdm

from .folder import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)


class Journal:
    """Log the progress of a run from a step on; without a folder, write nothing."""

    def __init__(self, folder: RunFolder | None, step: int, total_steps: int) -> None:
        self.folder = folder
        self.board = _tensorboard(folder, step) if folder else None
        self.bar = tqdm(total=total_steps, initial=step, unit="step", disable=not folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.board:
            self.board.close()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Write metrics to metrics.jsonl, TensorBoard and the progress bar."""
        if not self.folder:
            return
        self.folder.write(step, **metrics)
        if self.board:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, step)
        self.bar.set_postfix_str(
            f"loss {metrics['loss']:.2f}, lr {metrics['lr']:.3g}, "
            f"{metrics['clips_per_s']:.0f} clips/s, wait {100 * metrics['longest_wait']:.1f} %"
        )


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the peak memory of this process so far, GB."""
    if device.type == "cuda":
        return {"peak_device_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_host_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}


def _tensorboard(folder: RunFolder, step: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("no TensorBoard events: install tensorboard (extra `train`)")
        return None
    return SummaryWriter(str(folder.path), purge_step=step + 1)  # later steps are taken again
