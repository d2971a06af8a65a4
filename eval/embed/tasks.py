"""Task clips in, embeddings with targets out.

As in `files`, threads prefetch, clips of one length share a pass, and none is padded.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from audio_barlow_twins.shards.base.ahead import ahead
from audio_barlow_twins.shards.base.transfer import HostCopy, one_late, to_device

from ..sound.audio import read_at_rate
from ..systems.system import LoadedSystem
from ..tasks.task import Clip, Task
from ..tasks.timeline import Timeline
from .batches import buckets
from .cache import EmbeddingCache, Rows
from .embedded import Embedded
from .files import READ_AHEAD, reading_threads

WAITING_S = 1800
"""Sound in clips that wait for others of their length, s: 115 MB at 16 kHz."""
PASS_S = {"cpu": 16}
"""Sound in one pass, s: little on a CPU, so that a system's maps fit its cache. On other devices
only the system's own limit applies."""


def embed_task(
    task: Task,
    system: LoadedSystem,
    progress: Callable[[int], object] = lambda n: None,
    cache: EmbeddingCache | None = None,
) -> dict[str, Embedded]:
    """Return embeddings and targets of each split, on the system's device.

    Args:
        task: its clips are at the system's rate.
        progress: called with the number of clips after each pass.
        cache: of this system; its embeddings are used, and new ones are added.

    Raises:
        AudioError: a clip cannot be used; the splits before it are in the cache.
    """
    return {split: embed_split(task, split, system, progress, cache) for split in task.splits}


def embed_split(
    task: Task,
    split: str,
    system: LoadedSystem,
    progress: Callable[[int], object] = lambda n: None,
    cache: EmbeddingCache | None = None,
) -> Embedded:
    """Embed one split of a task; see `embed_task`."""
    clips, is_event = task.splits[split], task.metadata.is_event
    if cache is None:
        return _labelled(embed_clips(clips, is_event, system, progress), task, split, system.device)
    # Digest the clips before reading them, so that one that changes meanwhile is embedded again.
    file = cache.file(task, split, system.sample_rate)
    rows = cache.read(file, len(clips))
    if rows is None:
        rows = embed_clips(clips, is_event, system, progress)
        cache.write(file, rows)
    else:
        progress(len(clips))
    return _labelled(rows, task, split, system.device)


@torch.no_grad()
def embed_clips(
    clips: Sequence[Clip],
    is_event: bool,
    system: LoadedSystem,
    progress: Callable[[int], object] = lambda n: None,
) -> Rows:
    """Embed clips in order: each as a whole, or at its timestamps in event tasks.

    A GPU embeds the next pass while this one goes to the host.
    """
    parts: list[Tensor] = [torch.empty(0)] * len(clips)
    times: list[np.ndarray] = [np.empty(0)] * (len(clips) if is_event else 0)
    for numbers, embeddings, timestamps_ms in one_late(_passes(clips, is_event, system)):
        found = embeddings.result()
        system.check_finite("embeddings", found)
        for i, part in zip(numbers, found, strict=True):
            parts[i] = part
        if timestamps_ms is not None:
            stamps = timestamps_ms.result()
            system.check_finite("timestamps", stamps)
            for i, row in zip(numbers, stamps.double().numpy(), strict=True):
                times[i] = row
        progress(len(numbers))
    return Rows(torch.cat(parts), tuple(times))


def _passes(
    clips: Sequence[Clip], is_event: bool, system: LoadedSystem
) -> Iterator[tuple[Sequence[int], HostCopy, HostCopy | None]]:
    """Yield the clips' numbers, embeddings [n, T, D] and timestamps [n, T] of one pass each."""
    rate = system.sample_rate
    read = partial(read_clip, sample_rate=rate)
    reading = ahead(read, clips, reading_threads(system.device), READ_AHEAD)
    waves = (wave.result() for _, wave in reading)
    for group in buckets(waves, len, partial(_clips_per_pass, system), WAITING_S * rate):
        numbers, some = zip(*group, strict=True)
        audio = to_device(torch.from_numpy(np.stack(some)), system.device)
        if is_event:
            embeddings, timestamps_ms = system.timestamps(audio)
            yield numbers, HostCopy(embeddings), HostCopy(timestamps_ms)
        else:
            yield numbers, HostCopy(system.scenes(audio)[:, None]), None


def read_clip(clip: Clip, sample_rate: int) -> np.ndarray:
    """Read a task clip, float32 [samples], which must be at `sample_rate` (Hz)."""
    return read_at_rate(clip.path, sample_rate)


def _clips_per_pass(system: LoadedSystem, n_samples: int) -> int:
    most = system.clips_per_pass(n_samples)
    if (seconds := PASS_S.get(system.device.type)) is not None:
        most = min(most, seconds * system.sample_rate // n_samples)
    return max(1, most)


def _labelled(rows: Rows, task: Task, split: str, device: torch.device) -> Embedded:
    """Move a split to a device and add its targets."""
    clips, embeddings = task.splits[split], rows.embeddings.to(device)
    if not task.metadata.is_event:
        return Embedded(embeddings, torch.from_numpy(task.targets(split)).to(device))
    pairs = list(zip(clips, rows.timestamps_ms, strict=True))
    targets = np.concatenate([task.frame_targets(clip, times) for clip, times in pairs])
    timelines = [Timeline(timestamps_ms=times, events=clip.events) for clip, times in pairs]
    return Embedded(embeddings, torch.from_numpy(targets).to(device), tuple(timelines))
