"""`abt train listen`: a page on which every view of waveforms can be heard and seen."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.cli import Positional, say
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.html.card import Card, card_of, sound_page
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards

from ..views.bank import Bank
from ..views.base import Setting, WaveView, fit
from ..views.draws import Draws, sample_keys
from ..views.pipeline import Ranges, WaveName, split_views
from ..views.wave_views import make_views, needed_samples
from .clips import find_wave

RATE = FrontEnd().sample_rate
BACKGROUNDS = 64
"""Clips that may be put behind another."""
INTRO = (
    "Each view at three strengths, from a third of its range to all of it, after the clip as it "
    "was read. Below each name stands what was done."
)
STRENGTHS = (("gentle", 1 / 3), ("medium", 2 / 3), ("strongest", 1.0))
MILD: dict[str, dict[str, float]] = {
    "time-stretch": {"rate": 1},
    "pitch-shift": {"cents": 0},
    "equaliser": {"gain_db": 0},
    "low-pass": {"frequency_hz": 8000},
    "high-pass": {"frequency_hz": 20},
    "band-pass": {"q": 0.1},
    "compression": {"ratio": 1, "threshold_db": 0},
    "clipping": {"below_peak_db": 0},
    "reverb": {"rt60_s": 0.05, "direct_db": 30},
    "background": {"snr_db": 40},
    "coloured-noise": {"snr_db": 40},
    "bandwidth": {"rate_hz": 16000},
    "time-shift": {"shift_ms": 0},
    "time-mask": {"length_ms": 0},
    "fade": {"in_s": 0, "out_s": 0},
    "gain": {"gain_db": 0},
}
"""The values at which a view does next to nothing; its strength is the way from there."""


@dataclass(frozen=True, kw_only=True)
class Listen:
    """Write a page to hear and see every view of waveforms, at three strengths."""

    clip: Positional[tuple[str, ...]] = ()
    """Sound files, or keys of clips of the shard set; default: some at random."""
    shards: str = "data/demo/wave"
    """Wave shard set, for the clips and what is put behind them."""
    out: Path = Path("listen.html")
    """Page to write, one file with all sounds and pictures inside."""
    views: tuple[WaveName, ...] = get_args(WaveName)
    """The views to show."""
    ranges: Ranges = field(default_factory=Ranges)
    """How strong they may be."""
    clips: int = 2
    """Clips at random, where none is named."""
    seconds: float = 2.0
    """Length of what is played of a clip, s; two clips of 2 s make a page of 10 MB."""
    seed: int = 0
    """Another seed, other clips and other draws."""

    def __post_init__(self) -> None:
        if self.clips < 1 or not 0.1 <= self.seconds <= 60:
            raise UserError(
                f"clips is {self.clips}, seconds {self.seconds}; choose 1 or more, and 0.1 to 60"
            )
        split_views(self.views)

    def run(self) -> None:
        """Write the page and say where it is."""
        shard_set = open_shards(self.shards, wave_form())
        chain = self.ranges.chain(self.views)
        n_out = round(self.seconds * RATE)
        names = list(self.clip) or random_keys(shard_set, self.clips, self.seed, n_out)
        read = needed_samples(chain, n_out, RATE)
        clips = {name: fit(find_wave(name, shard_set)[None], read) for name in names}
        bank = Bank(BACKGROUNDS, (n_out,))
        for name in random_keys(shard_set, BACKGROUNDS, self.seed + 1, n_out):
            bank.push(fit(find_wave(name, shard_set)[None], n_out))
        setting = Setting(sample_rate=RATE, n_out=n_out, bank=bank)
        groups = []
        for name, view in chain.items():
            cards = [
                card
                for clip, x in clips.items()
                for card in _cards(clip, x, name, view, setting, self.seed)
            ]
            groups.append((name, (view.__doc__ or "").split("\n")[0], cards))
        subtitle = f"{len(clips)} clips of {self.shards}"
        whole = sound_page("Views of waveforms", subtitle, groups, INTRO)
        with replacing(self.out) as scratch:
            scratch.write_text(whole, encoding="utf-8")
        say(f"{self.out}: {len(chain)} views of {len(clips)} clips, {len(whole) / 1e6:.1f} MB")


def _cards(
    clip: str, x: Tensor, name: str, view: WaveView, setting: Setting, seed: int
) -> Iterator[Card]:
    """Show the clip [1, T], then one view of it at each strength."""
    n_out, log_mel = setting.n_out or x.shape[1], LogMel()
    yield card_of(f"{clip}: the clip", "as it was read", x[0, :n_out].numpy(), log_mel)
    for number, (words, strength) in enumerate(strengths(name)):
        given = at_strength(name, view, strength)
        keys = sample_keys(seed, torch.tensor(number), torch.zeros(1, dtype=torch.int64), 0)
        made, drawn = make_views({name: given}, x, Draws(keys), setting)
        (text,) = given.describe(drawn[name])
        yield card_of(f"{clip}: {words}", text, made[0].numpy(), log_mel)


def strengths(name: str) -> list[tuple[str, float]]:
    """List the strengths of a view; one that has no range has one."""
    return list(STRENGTHS) if name in MILD else [("done", 1.0)]


def at_strength(name: str, view: WaveView, strength: float) -> WaveView:
    """Fix the leading parameters of a view at a share of the way to their range's further end."""
    fixed = {}
    for parameter, mild in MILD.get(name, {}).items():
        end = max(getattr(view, parameter), key=lambda end: abs(end - mild))
        value = mild + strength * (end - mild)
        fixed[parameter] = (value, value)
    return replace(view, probability=1.0, **fixed)


def random_keys(shard_set: ShardSet, count: int, seed: int, n_samples: int) -> list[str]:
    """Draw keys of different clips; those of `n_samples` or more come first."""
    order = np.random.default_rng(seed).permutation(len(shard_set))
    short = shard_set.n_frames[order] < n_samples
    return [shard_set.keys[i] for i in order[np.argsort(short, kind="stable")][:count]]
