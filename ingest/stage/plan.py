"""Which clip goes into which shard: a pure function of the list of clips and the shard size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from audio_barlow_twins.shards.base.digest import digest_of
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.writer import shard_name

from ..sources.clip import Clip


@dataclass(frozen=True)
class PlannedShard:
    """The clips of one shard, in their order."""

    name: str
    clips: tuple[Clip, ...]
    digest: str
    """Hash of the planned clips; a finished shard keeps it in its sidecar."""
    attempts: tuple[int, ...] = ()
    """In a supplement, how often each clip was tried before."""


@dataclass(frozen=True)
class Plan(Sequence[PlannedShard]):
    """The shards of a list of clips; each is made when it is requested.

    A shard holds neighbours of the list; the reader shuffles.
    """

    source: str
    clips: Sequence[Clip]
    shard_clips: int

    def __post_init__(self) -> None:
        if self.shard_clips < 1:
            raise UserError(f"--shard-clips is {self.shard_clips}; a shard holds at least one clip")

    def __len__(self) -> int:
        return -(-len(self.clips) // self.shard_clips)

    @overload
    def __getitem__(self, index: int) -> PlannedShard: ...
    @overload
    def __getitem__(self, index: slice) -> list[PlannedShard]: ...
    def __getitem__(self, index: int | slice) -> PlannedShard | list[PlannedShard]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        begin = number * self.shard_clips
        clips = tuple(self.clips[begin : begin + self.shard_clips])
        digest = plan_digest(self.source, clips, self.shard_clips)
        return PlannedShard(shard_name(number), clips, digest)


def plan_digest(source: str, clips: Sequence[Clip], shard_clips: int) -> str:
    """Return a hash of what was planned; the other sources of a clip do not count."""
    planned = [
        [clip.key, clip.origin, clip.labels, clip.start_s, clip.end_s, clip.events]
        for clip in clips
    ]
    return digest_of([source, shard_clips, planned])
