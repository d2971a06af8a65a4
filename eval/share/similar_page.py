"""The page of `abt eval similar`: the sound and those near to it, to hear and to see."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from audio_barlow_twins.shards.html.page import Html, element, page, player, spectrogram
from audio_barlow_twins.shards.stored.form import to_pcm16
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel

from ..sound.audio import AudioError, read_audio

PLAYED_S = 20
"""A page holds this much of the beginning of each sound, s."""


def listening_page(
    clip: Path, nearest: Iterable[tuple[Path, float]], front_end: FrontEnd, folder: Path
) -> str:
    """Build a page with a card for a clip and for each sound that is near to it.

    Args:
        clip: the sound that was looked for.
        nearest: files and their cosines, nearest first.
        front_end: of the model, for the pictures.
        folder: files below it are named as seen from there.
    """
    log_mel = LogMel(front_end)
    cards = [
        _card(_seen_from(folder, file), f"cosine {cosine:.4f}", file, log_mel)
        for file, cosine in nearest
    ]
    return page(
        "Similar sounds",
        [
            ("Looked for", _card(clip.name, str(clip.parent), clip, log_mel)),
            ("Nearest first", element("div", *cards, class_="plots")),
        ],
        subtitle=f"{clip.name} among {folder}",
    )


def _seen_from(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def _card(title: str, about: str, file: Path, log_mel: LogMel) -> Html:
    """Show a sound; one that has gone since it was embedded is said to be missing."""
    caption = element("figcaption", element("b", title), element("span", about))
    front_end = log_mel.front_end
    try:
        wave = read_audio(file, front_end.sample_rate)[: PLAYED_S * front_end.sample_rate]
    except AudioError as error:
        return element("figure", caption, element("p", str(error), class_="quiet"))
    pcm = to_pcm16(wave)
    drawn = np.pad(wave, (0, max(front_end.least_samples - len(wave), 0)))
    frames = log_mel(torch.from_numpy(drawn)[None])[0].numpy()
    picture = spectrogram(frames, len(drawn) / front_end.sample_rate, f"Log-mel of {title}")
    return element("figure", caption, player(pcm, front_end.sample_rate, f"Play {title}"), picture)
