"""Stored clips: how they are written, checked and read.

    waveform ─▶ stored.writer ─▶ shard-000000.tar + .parquet ─▶ read.reader ─▶ crops in a batch
                    ▲  form, statistics, sidecar (the commit)      ▲  order: which clip, which crop
                    │                                              │  local: open tars
    stored.logmel ──┘  the one definition of log-mel               └─ remote: a bounded cache

In: arrays with a row of facts each. Out: batches of crops, in an order that is a pure function of
the set, the seed and the step. `decode` turns any sound file into a waveform; `cluster` fans work
out over Ray; `html` builds pages; `base` is shared by all rooms.
"""

from typing import TYPE_CHECKING

from audio_barlow_twins.lazy import lazily

if TYPE_CHECKING:
    from .base.errors import UserError as UserError
    from .read.reader import CropReader as CropReader
    from .stored.front_end import FrontEnd as FrontEnd
    from .stored.logmel import LogMel as LogMel
    from .stored.shardset import ShardSet as ShardSet
    from .stored.shardset import open_shards as open_shards
    from .stored.verify import verify as verify
    from .stored.writer import writing_shard as writing_shard

__all__, __getattr__ = lazily(
    __name__,
    {
        "CropReader": ".read.reader",
        "FrontEnd": ".stored.front_end",
        "LogMel": ".stored.logmel",
        "ShardSet": ".stored.shardset",
        "UserError": ".base.errors",
        "open_shards": ".stored.shardset",
        "verify": ".stored.verify",
        "writing_shard": ".stored.writer",
    },
)
