"""Mean and deviation that can be merged: of a clip, a shard, a data set."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Number of values, their mean, and the sum of squared deviations from it."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> "Statistics":
        """Summarise an array of any shape, in float64."""
        flat = values.astype(np.float64).ravel()
        mean = float(flat.mean()) if flat.size else 0.0
        return cls(flat.size, mean, float(np.square(flat - mean).sum()))

    @property
    def std(self) -> float:
        """Standard deviation of the population, 0 for no values."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0

    def merge(self, other: "Statistics") -> "Statistics":
        """Combine two disjoint sets of values exactly (Chan, Golub, LeVeque 1979)."""
        count = self.count + other.count
        if not count:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * other.count / count
        m2 = self.m2 + other.m2 + delta * delta * self.count * other.count / count
        return Statistics(count, mean, m2)

    @classmethod
    def merged(cls, parts: Iterable["Statistics"]) -> "Statistics":
        """Combine many, in their order."""
        total = cls()
        for part in parts:
            total = total.merge(part)
        return total
