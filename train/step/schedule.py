"""The learning-rate schedule."""

import math


def warmup_cosine(step: int, total_steps: int, warmup_steps: int, final: float = 0.0) -> float:
    """Return the factor of the learning rate, in [0, 1], after `step` steps.

    It rises linearly from 1 / warmup_steps to 1, then falls as a cosine that is cut off where it
    has reached `final`, at `total_steps`: half a cosine if `final` is 0.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps is {warmup_steps} of {total_steps} steps; choose from 0 to total_steps"
        )
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if step >= total_steps:
        return final
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    part = math.acos(2 * final - 1) / math.pi
    return 0.5 * (1 + math.cos(math.pi * part * progress))
