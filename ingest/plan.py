"""Which clip goes into which shard: a pure function of the list of clips and the shard size."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.clip import Clip
from shards.cli import UserError
from shards.writer import shard_name


@dataclass(frozen=True)
class PlannedShard:
    """The clips of one shard, in their order."""

    name: str
    """Stem of its files."""
    clips: tuple[Clip, ...]
    digest: str
    """Hash of what was planned; a finished shard keeps it in its sidecar."""


def plan_shards(source: str, clips: Sequence[Clip], shard_clips: int) -> list[PlannedShard]:
    """Cut the list into shards of `shard_clips`; shuffling is the reader's business."""
    if shard_clips < 1:
        raise UserError(f"--shard-clips is {shard_clips}; a shard holds at least one clip")
    return [
        PlannedShard(shard_name(number), part, _digest(source, part, shard_clips))
        for number, begin in enumerate(range(0, len(clips), shard_clips))
        for part in [tuple(clips[begin : begin + shard_clips])]
    ]


def _digest(source: str, clips: Sequence[Clip], shard_clips: int) -> str:
    planned = [source, shard_clips, [[clip.key, clip.origin, clip.labels] for clip in clips]]
    return hashlib.blake2b(json.dumps(planned).encode(), digest_size=16).hexdigest()
