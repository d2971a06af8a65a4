"""The learning-rate schedule."""

import math


def warmup_cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Return the factor of the learning rate, in [0, 1], after `step` steps.

    It rises linearly from 1 / warmup_steps to 1, then falls as half a cosine to 0 at `total_steps`.
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
