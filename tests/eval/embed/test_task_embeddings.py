from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from archive_task import write_archive_task
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy_task import make_events

from audio_barlow_twins.eval.embed.cache import EmbeddingCache
from audio_barlow_twins.eval.embed.tasks import PASS_S, embed_clips, embed_split, embed_task
from audio_barlow_twins.eval.hear import get_scene_embeddings, get_timestamp_embeddings
from audio_barlow_twins.eval.sound.audio import AudioError, read_audio
from audio_barlow_twins.eval.systems.system import LoadedSystem
from audio_barlow_twins.eval.tasks.resampled import task_at
from audio_barlow_twins.eval.tasks.task import Clip, Task, read_task
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.transfer import HostCopy


@dataclass
class Statistics:
    """A system that tells a clip by its length, peak and energy, in windows of 100 ms."""

    sample_rate: int = 16000
    most_samples: int = 40_000
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    passes: list[tuple[int, int]] = field(default_factory=list)

    def clips_per_pass(self, n_samples: int) -> int:
        return max(1, self.most_samples // n_samples)

    def scenes(self, audio: Tensor) -> Tensor:
        self.passes.append((audio.shape[0], audio.shape[1]))
        length = torch.full((len(audio),), float(audio.shape[1]))
        return torch.stack([length, audio.abs().amax(1), audio.square().sum(1)], dim=1)

    def timestamps(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        self.passes.append((audio.shape[0], audio.shape[1]))
        windows = audio.unfold(1, self.sample_rate // 10, self.sample_rate // 10)
        times = 100 * torch.arange(windows.shape[1], dtype=torch.float64)
        features = torch.stack([windows.abs().amax(2), windows.square().sum(2)], dim=2)
        return features, times.expand(len(audio), -1)

    def check_finite(self, what: str, values: Tensor) -> None:
        assert values.isfinite().all(), what


def vary_lengths(task: Task) -> None:
    """Give the clips of a task four lengths, shortest not first."""
    for clips in task.splits.values():
        for i, clip in enumerate(clips):
            wave = read_audio(clip.path, 16000)
            soundfile.write(clip.path, np.resize(wave, 16000 - 3200 * ((i * 5) % 4)), 16000)


@pytest.fixture
def scene_task(task_folder: Path) -> Task:
    task = read_task(task_folder, 16000)
    vary_lengths(task)
    return task


@pytest.fixture
def event_task(task_folder: Path) -> Task:
    """Make the toy an event task: in every clip, its label sounds from 200 to 400 ms."""
    make_events(task_folder, ["event_onset_200ms_fms"], 200, 400)
    task = read_task(task_folder, 16000)
    vary_lengths(task)
    return task


def test_a_row_is_the_embedding_of_its_clip_alone(scene_task: Task, hear_model: Embedder) -> None:
    for split, embedded in embed_task(scene_task, LoadedSystem.of("ours", hear_model)).items():
        assert torch.equal(embedded.targets, torch.from_numpy(scene_task.targets(split)))
        for clip, row in zip(scene_task.splits[split], embedded.embeddings, strict=True):
            audio = torch.from_numpy(read_audio(clip.path, 16000))[None]
            alone = get_scene_embeddings(audio, hear_model)[0]
            torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)


def test_rows_of_events_are_those_of_each_clip_alone_one_clip_after_another(
    event_task: Task, hear_model: Embedder
) -> None:
    embedded = embed_task(event_task, LoadedSystem.of("ours", hear_model))["fold02"]
    start = 0
    for clip, timeline in zip(event_task.splits["fold02"], embedded.timelines, strict=True):
        audio = torch.from_numpy(read_audio(clip.path, 16000))[None]
        rows, times = get_timestamp_embeddings(audio, hear_model)
        some = slice(start, start := start + len(timeline.timestamps_ms))
        np.testing.assert_array_equal(timeline.timestamps_ms, times[0])
        torch.testing.assert_close(embedded.embeddings[some], rows[0], atol=1e-5, rtol=1e-5)
        marks = event_task.frame_targets(clip, timeline.timestamps_ms)
        assert torch.equal(embedded.targets[some], torch.from_numpy(marks))
        assert timeline.events == clip.events
    assert start == len(embedded)


@pytest.mark.parametrize("kind", ["scene_task", "event_task"])
def test_clips_of_one_length_go_together_and_none_is_padded(
    kind: str, request: pytest.FixtureRequest
) -> None:
    task, system = request.getfixturevalue(kind), Statistics()
    embed_split(task, "fold00", system)
    assert sorted(system.passes) == [(2, 6400), (2, 9600), (2, 12800), (2, 16000)]


def test_on_a_cpu_little_sound_goes_together_even_if_the_system_would_take_more(
    scene_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASS_S, "cpu", 1)
    system = Statistics(most_samples=10**9)
    embed_split(scene_task, "fold00", system)
    assert sorted(system.passes) == [
        (1, 9600), (1, 9600), (1, 12800), (1, 12800), (1, 16000), (1, 16000), (2, 6400),
    ]  # fmt: skip


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=12), most=st.integers(100, 3000),
    is_event=st.booleans(),
)  # fmt: skip
def test_rows_are_in_the_order_of_the_clips_whatever_their_lengths(
    lengths: list[int], most: int, is_event: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    clips = []
    for i, length in enumerate(lengths):
        path = folder / f"{i}.wav"
        soundfile.write(path, np.full(100 * length, (i + 1) / 64), 1000, "FLOAT")
        clips.append(Clip(path=path))
    system = Statistics(sample_rate=1000, most_samples=most)
    rows = embed_clips(clips, is_event, system)
    wanted = np.repeat(np.arange(len(lengths)) + 1, lengths if is_event else 1) / 64
    np.testing.assert_allclose(rows.embeddings[:, 0 if is_event else 1], wanted)
    if is_event:
        assert [len(times) for times in rows.timestamps_ms] == lengths
    else:
        np.testing.assert_array_equal(rows.embeddings[:, 0], 100 * np.array(lengths))
    assert all(n == 1 or n * samples <= most for n, samples in system.passes)


@pytest.mark.parametrize("is_event", [False, True])
def test_a_pass_is_fetched_once_the_next_one_is_begun(
    scene_task: Task, is_event: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, told = Statistics(), list[int]()
    result = HostCopy.result

    def fetched(copy: HostCopy) -> Tensor:
        told.append(len(system.passes))
        return result(copy)

    monkeypatch.setattr(HostCopy, "result", fetched)
    embed_clips(scene_task.splits["fold00"], is_event, system)
    assert told == np.repeat([2, 3, 4, 4], 2 if is_event else 1).tolist()


@pytest.mark.parametrize(
    ("is_event", "words"), [(False, "embeddings"), (True, "embeddings"), (True, "timestamps")]
)
def test_values_that_are_not_finite_are_refused_by_the_name_of_the_system(
    scene_task: Task, hear_model: Embedder, is_event: bool, words: str
) -> None:
    def scenes(audio: Tensor, model: Embedder) -> Tensor:
        return torch.full((len(audio), 3), torch.nan)

    def timestamps(audio: Tensor, model: Embedder) -> tuple[Tensor, Tensor]:
        bad = torch.full((len(audio), 2), torch.nan)
        if words == "timestamps":
            return torch.ones(len(audio), 2, 3), bad
        return bad[..., None], torch.zeros(len(audio), 2)

    system = LoadedSystem("Theirs", hear_model, scenes, timestamps, torch.device("cpu"))
    with pytest.raises(UserError, match=f"^Theirs: {words} are not finite$"):
        embed_clips(scene_task.splits["fold00"], is_event, system)


def test_progress_counts_every_clip(scene_task: Task) -> None:
    told: list[int] = []
    embed_task(scene_task, Statistics(), told.append)
    assert sum(told) == 24
    assert len(told) > 3


@pytest.mark.parametrize("kind", ["scene_task", "event_task"])
def test_the_second_time_nothing_is_embedded(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    task, cache = request.getfixturevalue(kind), EmbeddingCache(tmp_path / "cache", "statistics")
    plain = embed_task(task, Statistics())
    first = embed_task(task, Statistics(), cache=cache)
    for clips in task.splits.values():
        for clip in clips:
            clip.path.chmod(0)  # nor read, if this is not root
    again = Statistics()
    told: list[int] = []
    second = embed_task(task, again, told.append, cache)
    assert not again.passes
    assert sum(told) == task.n_clips
    for split in task.splits:
        for embedded in (first[split], second[split]):
            assert torch.equal(embedded.embeddings, plain[split].embeddings)
            assert torch.equal(embedded.targets, plain[split].targets)
            for line, wanted in zip(embedded.timelines, plain[split].timelines, strict=True):
                np.testing.assert_array_equal(line.timestamps_ms, wanted.timestamps_ms)
                assert line.events == wanted.events


def change_clip(task: Task, cached: Path) -> None:
    path = task.splits["fold01"][0].path
    soundfile.write(path, np.full(16000, 0.5), 16000)


def damage(task: Task, cached: Path) -> None:
    content = bytearray(cached.read_bytes())
    content[-200] ^= 1
    cached.write_bytes(content)


@pytest.mark.parametrize("spoil", [change_clip, damage])
def test_only_a_split_that_changed_or_was_damaged_is_embedded_again(
    scene_task: Task, tmp_path: Path, spoil: Callable[[Task, Path], None]
) -> None:
    cache = EmbeddingCache(tmp_path / "cache", "statistics")
    embed_task(scene_task, Statistics(), cache=cache)
    spoil(scene_task, cache.file(scene_task, "fold01", 16000))
    again = Statistics()
    splits = embed_task(scene_task, again, cache=cache)
    assert sum(n for n, _ in again.passes) == 8
    fresh = embed_task(scene_task, Statistics())
    assert all(torch.equal(splits[s].embeddings, fresh[s].embeddings) for s in splits)
    third = Statistics()
    embed_task(scene_task, third, cache=cache)
    assert not third.passes


def test_embeddings_of_resampled_clips_are_found_when_the_clips_were_made_again(
    tmp_path: Path,
) -> None:
    archive = write_archive_task(tmp_path / "tones")
    cache = EmbeddingCache(tmp_path / "cache", "statistics")
    embed_task(task_at(archive, 16000, tmp_path / "one"), Statistics(), cache=cache)
    again = Statistics()
    embed_task(task_at(archive, 16000, tmp_path / "two"), again, cache=cache)
    assert not again.passes


def test_a_clip_at_another_rate_than_its_folder_says_is_refused(scene_task: Task) -> None:
    path = scene_task.splits["fold00"][3].path
    soundfile.write(path, np.zeros(100), 8000)
    with pytest.raises(AudioError, match=rf"{path.name}: is at 8000 Hz; wanted 16000 Hz"):
        embed_task(scene_task, Statistics())
