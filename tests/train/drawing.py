"""Keys and numbers for views, and the same numbers by Python's integers."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.train.views.base import Drawn, View, draws_of
from audio_barlow_twins.train.views.draws import sample_keys

WORD = 2**64
GAMMA = 0x9E3779B97F4A7C15


def keys_of(n: int, seed: int = 11, epoch: int = 0, view: int = 0) -> Tensor:
    """Make the keys of the first `n` clips, int64 [n]."""
    return torch.from_numpy(sample_keys(seed, np.array([epoch]), np.arange(n)))[view]


def numbers(view: View, keys: Tensor) -> Drawn:
    """Draw what one view draws."""
    return draws_of({view.name: view}, keys.device)(keys)[view.name]


def splitmix64(state: int) -> int:
    """Scramble one 64-bit word."""
    z = state % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def plain_words(keys: Tensor, view: str, place: int) -> list[int]:
    """Return the words at a place (from 1) of the streams of a view."""
    name = int.from_bytes(hashlib.blake2b(view.encode(), digest_size=8).digest(), "little")
    return [splitmix64(splitmix64(key % WORD ^ name) + place * GAMMA) for key in keys.tolist()]


def plain_uniforms(keys: Tensor, view: str, place: int, low: float, high: float) -> list[float]:
    """Return uniform numbers from [low, high) at a place of the streams of a view."""
    units = [(word >> 40) / 2**24 for word in plain_words(keys, view, place)]
    return [low + unit * (high - low) for unit in units]


def plain_integers(keys: Tensor, view: str, place: int, high: int) -> list[int]:
    """Return integers from [0, high) at a place of the streams of a view."""
    return [(word >> 32) * high >> 32 for word in plain_words(keys, view, place)]


def signed(word: int) -> int:
    """Read 64 bits as a signed integer."""
    return word - WORD if word >= WORD // 2 else word
