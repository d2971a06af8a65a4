"""`abt train views CLIP`: a picture of pairs of views, as training would see them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.cli import Positional, say
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import make_folder_of
from audio_barlow_twins.shards.read.reader import CropReader
from audio_barlow_twins.shards.stored.form import logmel_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards

from ..config import LogmelNames
from ..run.pictures import new_figure, save
from ..views.base import Chain, LogmelView
from ..views.draws import sample_keys
from ..views.norm import SetNorm
from ..views.pipeline import TwoViews
from ..views.registry import PAPER, default_views, make_chain
from .clips import read_file, read_key

SPREAD = 3.0
"""Range of the colours around the mean, standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """Draw pairs of views of a clip, next to the clip."""

    clip: Positional[str]
    """A sound file, or the key of a clip of the shard set."""
    shards: str = "data/demo/logmel"
    """Log-mel shard set, for its statistics and for clips to mix in."""
    out: Path = Path("views.png")
    """Picture to write."""
    views: LogmelNames = PAPER
    """The augmentations, in the order in which they are applied."""
    ranges: Chain = field(default_factory=lambda: default_views(LogmelView))
    """How strong they are."""
    pairs: int = 3
    """Pairs of views."""
    crop_frames: int = 96
    """Length of a crop, frames of 10 ms."""
    seed: int = 0
    """For what the views draw."""

    def __post_init__(self) -> None:
        if min(self.pairs, self.crop_frames) < 1:
            raise UserError("pairs and crop_frames must be 1 or more")
        make_chain(self.views, self.ranges, LogmelView)

    def run(self) -> None:
        make_folder_of(self.out)
        shard_set = open_shards(self.shards, logmel_form(FrontEnd()))
        crop = loudest_crop(whole_clip(self, shard_set), self.crop_frames)
        pairs = zip(*make(self, shard_set, crop), strict=True)
        norm = SetNorm(shard_set.statistics.mean, shard_set.statistics.std)
        rows = [[norm(crop), *pair] for pair in pairs]
        title = f"{self.clip}: {', '.join(self.views) or 'no augmentation'}"
        draw(rows, title, self.out)
        say(f"{self.out}: {self.pairs} pairs of views of {self.clip}")


def whole_clip(config: Show, shard_set: ShardSet) -> Tensor:
    """Compute or read the clip's log-mel, float32 [T, F]."""
    if not Path(config.clip).is_file():
        return torch.from_numpy(read_key(config.clip, shard_set)).float()
    wave = read_file(Path(config.clip))
    lacking = max(0, FrontEnd().least_samples - len(wave))
    return LogMel()(torch.nn.functional.pad(wave, (0, lacking))[None])[0]


def make(config: Show, shard_set: ShardSet, crop: Tensor) -> tuple[Tensor, Tensor]:
    """Make pairs of views of one crop [T, F]; clips of the set fill the bank."""
    norm = SetNorm(shard_set.statistics.mean, shard_set.statistics.std)
    views = TwoViews(make_chain(config.views, config.ranges), norm, (len(crop), crop.shape[1]))
    held = max(1, min(len(shard_set), views.memory))
    with CropReader(shard_set, frames=config.crop_frames, batch=held, seed=config.seed) as reader:
        views.remember(next(reader.batches(0, 1)).crops)
    numbers = np.arange(config.pairs)
    keys = torch.from_numpy(sample_keys(config.seed, 0 * numbers, numbers))
    return views(crop.expand(config.pairs, *crop.shape), keys)


def loudest_crop(log_mel: Tensor, frames: int) -> Tensor:
    """Return the crop with the highest mean of a clip [T, F]; a short clip is padded with zeros."""
    lacking = max(0, frames - len(log_mel))
    padded = torch.nn.functional.pad(log_mel, (0, 0, 0, lacking))
    means = padded.mean(dim=1).unfold(0, frames, 1).mean(dim=1)
    begin = int(means.argmax())
    return padded[begin : begin + frames]


def draw(rows: list[list[Tensor]], title: str, path: Path) -> None:
    """Draw rows of a clip and two views, normalised log-mel [T, F] each."""
    figure = new_figure(9, 1 + 2 * len(rows))
    panels = figure.subplots(len(rows), 3, squeeze=False, sharex=True, sharey=True)
    for line, row in zip(panels, rows, strict=True):
        for axes, name, x in zip(line, ("clip", "view A", "view B"), row, strict=True):
            where = (0, len(x) / 100, 0, x.shape[1])
            image = axes.imshow(
                x.T.numpy(), origin="lower", aspect="auto", vmin=-SPREAD, vmax=SPREAD, extent=where
            )
            axes.set_title(name)
    for axes in panels[-1]:
        axes.set_xlabel("s")
    figure.supylabel("mel bin")
    figure.colorbar(image, ax=panels, label="log-mel, standard deviations from the mean")
    figure.suptitle(title)
    save(figure, path)
