"""Shard sets of noise, for benchmarks."""

from pathlib import Path

import numpy as np

from .form import Form, logmel_form
from .front_end import FrontEnd
from .shardset import ShardSet, open_shards
from .sidecar import Row
from .writer import shard_name, writing_shard


def synthetic_shards(
    folder: Path, clips: int, per_shard: int = 256, form: Form | None = None
) -> ShardSet:
    """Write noise as a shard set of 10 s clips, of log-mel unless another form is given."""
    form = form or logmel_form(FrontEnd())
    shape, gain = ((160_000,), 1000) if form.kind == "wave" else ((1001, 64), 1)
    rng = np.random.default_rng(0)
    for number, begin in enumerate(range(0, clips, per_shard)):
        with writing_shard(folder, shard_name(number), form, plan="bench") as writer:
            for clip in range(begin, min(begin + per_shard, clips)):
                values = gain * rng.standard_normal(shape, dtype=np.float32)
                writer.add(_row(clip), values.astype(form.dtype))
    return open_shards(folder)


def _row(clip: int) -> Row:
    return Row(
        key=f"clip{clip:07d}", status="ok", source="noise", source_version="numpy",
        origin=str(clip), labels=[],
    )  # fmt: skip
