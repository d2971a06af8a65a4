"""Cards that play and draw one sound, and pages of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..stored.form import Form, to_pcm16
from .page import TEMPLATES, render
from .picture import data_uri

if TYPE_CHECKING:
    from ..stored.logmel import LogMel


@dataclass(frozen=True, kw_only=True)
class Card:
    """One sound, for the macro `sound_card`."""

    title: str
    lines: Sequence[str]
    """What is known of it; the first line also labels player and picture."""
    notes: Sequence[str] = ()
    """What cannot be played or drawn, and why."""
    samples: np.ndarray | None = None
    """int16 [T]; without them there is no player."""
    sample_rate: int = 16000
    """Hz."""
    log_mel: np.ndarray | None = None
    """Natural log of power, float [T, F]; without it there is no picture."""
    frames_per_s: float = 100

    @property
    def wav(self) -> str:
        """Data URI of the sound as a WAV file; '' without samples."""
        if self.samples is None:
            return ""
        form = Form("wave", {"sample_rate": self.sample_rate})
        return data_uri("audio/wav", form.encode(self.samples))


def card_of(title: str, line: str, wave: np.ndarray, log_mel: "LogMel") -> Card:
    """Return the card of a waveform, float [T] in [-1, 1), at the front-end's sample rate."""
    # It imports torch, which a page of stored clips does not need.
    from ..stored.logmel import stored_logmel

    front_end, samples = log_mel.front_end, to_pcm16(wave)
    drawn = np.pad(samples, (0, max(front_end.least_samples - len(samples), 0)))
    return Card(
        title=title, lines=[line], samples=samples, sample_rate=front_end.sample_rate,
        log_mel=stored_logmel(log_mel, drawn),
        frames_per_s=front_end.sample_rate / front_end.hop,
    )  # fmt: skip


def sound_page(
    title: str, subtitle: str, groups: Sequence[tuple[str, str, Sequence[Card]]], intro: str = ""
) -> str:
    """Return a page of groups of cards; a group is a heading, a line below it or '', and its cards.

    An `intro` is followed by links to the groups.
    """
    template = TEMPLATES / "cards.html"
    return render(template, title=title, subtitle=subtitle, groups=groups, intro=intro)
