"""Self-supervised audio encoders from AudioSet, data pipeline first.

The folders `ingest`, `shards`, `model`, `train` and `eval` of the repository are its subpackages.
`abt --help` lists what each of them does.
"""

from typing import TYPE_CHECKING

from audio_barlow_twins.lazy import lazily

if TYPE_CHECKING:
    from audio_barlow_twins.model.embedder import load_model as load_model
    from audio_barlow_twins.shards.read.reader import CropReader as CropReader
    from audio_barlow_twins.shards.stored.logmel import LogMel as LogMel
    from audio_barlow_twins.shards.stored.shardset import open_shards as open_shards

__all__, __getattr__ = lazily(
    __name__,
    {
        "CropReader": ".shards.read.reader",
        "LogMel": ".shards.stored.logmel",
        "load_model": ".model.embedder",
        "open_shards": ".shards.stored.shardset",
    },
)
