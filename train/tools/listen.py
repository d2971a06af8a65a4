"""`abt train listen`: a page on which every view of waveforms can be heard and seen."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.cli import Positional, say
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import make_folder_of, replacing
from audio_barlow_twins.shards.html.card import Card, card_of, sound_page
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards

from ..config import WaveNames
from ..views.bank import Bank
from ..views.base import Chain, View, ViewContext, WaveView, draws_of, fit
from ..views.draws import sample_keys
from ..views.pipeline import apply_chain, needed_samples
from ..views.registry import default_views, make_chain, view_names
from .clips import find_wave

RATE = FrontEnd().sample_rate
BACKGROUNDS = 64
"""Clips that may be mixed into others."""
INTRO = (
    "Each view at three strengths, from a third of its range to all of it, after the original "
    "clip. Below each name is what was done."
)
STRENGTHS = (("gentle", 1 / 3), ("medium", 2 / 3), ("strongest", 1.0))
"""The strengths that a page shows: shares of the way from a view's mildest to its range's end."""


@dataclass(frozen=True, kw_only=True)
class Listen:
    """Write a page to hear and see the views of waveforms, at three strengths."""

    clip: Positional[tuple[str, ...]] = ()
    """Sound files, or keys of clips of the shard set; default: some at random."""
    shards: str = "data/demo/wave"
    """Wave shard set, for the clips and for background sounds."""
    out: Path = Path("listen.html")
    """Page to write: one file with all sounds and pictures."""
    views: WaveNames = field(default_factory=lambda: view_names(WaveView))
    """The views to show."""
    ranges: Chain = field(default_factory=lambda: default_views(WaveView))
    """How strong they may be."""
    clips: int = 2
    """Number of random clips, if none is named."""
    seconds: float = 2.0
    """Length to play of each clip, s; two clips of 2 s make a page of 10 MB."""
    seed: int = 0
    """For the choice of clips and what the views draw."""

    def __post_init__(self) -> None:
        if self.clips < 1 or not 0.1 <= self.seconds <= 60:
            raise UserError(
                f"clips is {self.clips}, seconds {self.seconds}; choose 1 or more, and 0.1 to 60"
            )
        make_chain(self.views, self.ranges, WaveView)

    def run(self) -> None:
        make_folder_of(self.out)
        shard_set = open_shards(self.shards, wave_form())
        chain = make_chain(self.views, self.ranges)
        n_out = round(self.seconds * RATE)
        names = list(self.clip) or random_keys(shard_set, self.clips, self.seed, n_out)
        read = needed_samples(chain, n_out, RATE)
        clips = {name: fit(find_wave(name, shard_set)[None], read) for name in names}
        bank = Bank(BACKGROUNDS, (n_out,))
        for name in random_keys(shard_set, BACKGROUNDS, self.seed + 1, n_out):
            bank.push(fit(find_wave(name, shard_set)[None], n_out))
        context = ViewContext(shape=(n_out,), bank=bank, sample_rate=RATE)
        groups = []
        for name, view in chain.items():
            cards = [
                card
                for clip, x in clips.items()
                for card in _cards(clip, x, view, context, self.seed)
            ]
            groups.append((name, (view.__doc__ or "").split("\n")[0], cards))
        subtitle = f"{len(clips)} clips of {self.shards}"
        whole = sound_page("Views of waveforms", subtitle, groups, INTRO)
        with replacing(self.out) as scratch:
            scratch.write_text(whole, encoding="utf-8")
        say(f"{self.out}: {len(chain)} views of {len(clips)} clips, {len(whole) / 1e6:.1f} MB")


def _cards(clip: str, x: Tensor, view: View, context: ViewContext, seed: int) -> Iterator[Card]:
    """Yield a card of the clip [1, T], then of one view of it at each strength."""
    log_mel = LogMel()
    whole = x[0, : context.shape[0]].numpy()
    yield card_of(f"{clip}: the clip", "unchanged", whole, log_mel)
    for number, (words, strength) in enumerate(strengths(view)):
        given = at_strength(view, strength)
        chain = {view.name: given}
        keys = torch.from_numpy(sample_keys(seed, np.array([number]), np.zeros(1)))[0]
        made, drawn = apply_chain(chain, x, draws_of(chain)(keys), context)
        (text,) = given.describe(drawn[view.name])
        yield card_of(f"{clip}: {words}", text, made[0].numpy(), log_mel)


def strengths(view: View) -> list[tuple[str, float]]:
    """Return the strengths of a view; just one if none of its options declares what is mild."""
    mild = any(span.mild is not None for span in view.spans.values())
    return list(STRENGTHS) if mild else [("done", 1.0)]


def at_strength(view: View, strength: float) -> View:
    """Fix each option that declares what is mild, at a share of the way to its further end."""
    fixed: dict[str, Any] = {"probability": 1.0}
    for option, span in view.spans.items():
        if (mild := span.mild) is not None:
            end = max(getattr(view, option), key=lambda end: abs(end - mild))
            fixed[option] = (mild + strength * (end - mild),) * 2
    return replace(view, **fixed)


def random_keys(shard_set: ShardSet, count: int, seed: int, n_samples: int) -> list[str]:
    """Draw keys of different clips; clips of `n_samples` or more come first."""
    order = np.random.default_rng(seed).permutation(len(shard_set))
    short = shard_set.n_frames[order] < n_samples
    return [shard_set.keys[i] for i in order[np.argsort(short, kind="stable")][:count]]
