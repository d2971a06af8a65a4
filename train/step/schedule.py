"""The learning-rate schedule."""

import math


def warmup_cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Compute the factor of the learning rate at one optimiser step.

    Args:
        step: optimiser steps taken so far, from 0.
        total_steps: steps of the whole run.
        warmup_steps: steps of linear warm-up, with factors 1 / warmup_steps to 1.

    Returns:
        A factor in [0, 1]; after the warm-up half a cosine falls from 1 to 0 at `total_steps`.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps is {warmup_steps} of {total_steps} steps; choose from 0 to total_steps"
        )
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if step >= total_steps:
        return 0.0
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))
