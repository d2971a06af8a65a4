import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from archive_task import RATE, SPLITS, write_archive_task
from scipy.signal import resample_poly

from audio_barlow_twins.eval.sound.audio import AudioError
from audio_barlow_twins.eval.tasks.metadata import TaskError
from audio_barlow_twins.eval.tasks.resampled import task_at
from audio_barlow_twins.eval.tasks.task import Task, read_task
from audio_barlow_twins.shards.base.errors import UserError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive_task(tmp_path / "tasks" / "tones-v1-full")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files_of(task: Task) -> dict[Path, bytes]:
    return {clip.path: clip.path.read_bytes() for clips in task.splits.values() for clip in clips}


def written(cache: Path) -> dict[Path, int]:
    """Return the resampled files with their inodes, which tell whether they were written again."""
    return {path: path.stat().st_ino for path in cache.rglob("*.wav")}


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def resampled_tone(archive: Path, cache: Path, wave: np.ndarray) -> np.ndarray:
    soundfile.write(archive / "48000" / "train" / "train0.wav", wave, RATE, "FLOAT")
    task = task_at(archive, 16000, cache)
    (path,) = (c.path for c in task.splits["train"] if c.path.name.startswith("train0."))
    out, rate = soundfile.read(path)
    assert rate == 16000
    return out


@pytest.mark.parametrize("frequency", [50.0, 1000.0, 6900.0])
def test_a_tone_that_fits_keeps_amplitude_and_phase(
    archive: Path, cache: Path, frequency: float
) -> None:
    out = resampled_tone(archive, cache, tone(frequency))
    wanted = 0.5 * np.sin(2 * np.pi * frequency * np.arange(16000) / 16000)
    np.testing.assert_allclose(out[800:-800], wanted[800:-800], atol=2e-6)


@pytest.mark.parametrize("frequency", [8800.0, 12000.0, 23000.0])
def test_a_tone_that_does_not_fit_leaves_no_alias(
    archive: Path, cache: Path, frequency: float
) -> None:
    out = resampled_tone(archive, cache, tone(frequency))
    assert np.abs(out[800:-800]).max() < 2e-6


def test_sounds_are_those_of_another_polyphase_filter_below_its_transition(
    archive: Path, cache: Path
) -> None:
    chirp = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(100, 6000, RATE)) / RATE)
    out = resampled_tone(archive, cache, chirp)
    other = resample_poly(chirp, 1, 3, window=("kaiser", 12.0))
    np.testing.assert_allclose(out[800:-800], other[800:-800], atol=1e-3)


def test_channels_are_averaged(archive: Path, cache: Path) -> None:
    out = resampled_tone(archive, cache, np.stack([tone(440), 0 * tone(440)], axis=1))
    assert out.shape == (16000,)
    assert np.abs(out[800:-800]).max() == pytest.approx(0.25, rel=1e-4)


def test_samples_beyond_full_scale_and_below_16_bits_are_kept(archive: Path, cache: Path) -> None:
    for gain in (4, 1e-6):
        out = resampled_tone(archive, cache, gain * tone(440))
        assert np.abs(out[800:-800]).max() == pytest.approx(gain / 2, rel=1e-3)


def test_a_rate_that_the_folder_has_is_not_resampled(archive: Path, cache: Path) -> None:
    assert task_at(archive, RATE, cache) == read_task(archive, RATE)
    assert not cache.exists()


def test_clips_labels_and_order_are_those_of_the_task(archive: Path, cache: Path) -> None:
    task, source = task_at(archive, 16000, cache), read_task(archive, RATE)
    assert task.metadata == source.metadata
    for split in SPLITS:
        for clip, original in zip(task.splits[split], source.splits[split], strict=True):
            assert clip.labels == original.labels
            assert clip.path.name.split(".")[0] == original.path.stem
            assert clip.path.parent.name == split
            assert soundfile.info(clip.path).frames == 8000


def test_a_second_call_writes_nothing(archive: Path, cache: Path) -> None:
    task = task_at(archive, 16000, cache)
    before = written(cache)
    assert len(before) == 9
    assert task_at(archive, 16000, cache) == task
    assert written(cache) == before


def test_a_missing_file_is_made_again_with_the_same_samples_and_nothing_else(
    archive: Path, cache: Path
) -> None:
    task = task_at(archive, 16000, cache)
    content, before = files_of(task), written(cache)
    gone = task.splits["test"][1].path
    state = gone.stat()
    gone.unlink()
    again = files_of(task_at(archive, 16000, cache))
    # libsndfile notes the time of writing in the header.
    assert {path: data[-32000:] for path, data in again.items()} == {
        path: data[-32000:] for path, data in content.items()
    }
    assert gone.stat().st_mtime_ns == state.st_mtime_ns
    assert {path: inode for path, inode in written(cache).items() if path != gone} == {
        path: inode for path, inode in before.items() if path != gone
    }


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_source_is_resampled_again_and_its_old_clip_goes(
    archive: Path, cache: Path, change: str
) -> None:
    task_at(archive, 16000, cache)
    before = written(cache)
    source = archive / "48000" / "valid" / "valid1.wav"
    state = source.stat()
    frames = 24000 if change == "time" else 12000
    soundfile.write(source, np.full(frames, 0.25), RATE, "PCM_16")
    if change == "size":
        os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    task = task_at(archive, 16000, cache)
    (path,) = (c.path for c in task.splits["valid"] if c.path.name.startswith("valid1."))
    np.testing.assert_allclose(soundfile.read(path)[0][500:-500], 0.25, atol=1e-4)
    after = written(cache)
    assert len(after) == 9
    assert len(after.items() & before.items()) == 8


def test_two_folders_of_one_name_do_not_share_clips(archive: Path, cache: Path) -> None:
    other = write_archive_task(archive.parents[1] / "others" / archive.name)
    ours, theirs = task_at(archive, 16000, cache), task_at(other, 16000, cache)
    assert files_of(ours).keys().isdisjoint(files_of(theirs))
    assert all(path.is_file() for path in files_of(ours))


def test_the_highest_rate_is_resampled(archive: Path, cache: Path) -> None:
    low = archive / "8000"
    shutil.copytree(archive / "48000", low)
    for path in low.rglob("*.wav"):
        soundfile.write(path, np.zeros(4000), 8000)
    task = task_at(archive, 16000, cache)
    assert np.abs(soundfile.read(task.splits["train"][0].path)[0]).max() > 0.05


def test_what_a_higher_rate_cannot_gain_is_said(
    archive: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_at(archive, 96000, cache)
    assert "nothing above 24000 Hz" in caplog.text
    assert soundfile.info(task.splits["train"][0].path).frames == 48000


def test_a_source_at_another_rate_than_its_folder_says_stops_but_keeps_the_others(
    archive: Path, cache: Path
) -> None:
    bad = read_task(archive, RATE).splits["test"][-1].path
    good = bad.read_bytes()
    soundfile.write(bad, np.zeros(1000), 44100)
    with pytest.raises(AudioError, match=rf"{bad.name}: is at 44100 Hz; wanted 48000 Hz"):
        task_at(archive, 16000, cache)
    before = written(cache)
    assert len(before) == 8
    bad.write_bytes(good)
    task_at(archive, 16000, cache)
    assert before.items() <= written(cache).items()


def test_a_clip_of_which_nothing_is_left_is_refused(archive: Path, cache: Path) -> None:
    soundfile.write(archive / "48000" / "train" / "train0.wav", np.ones(1), RATE)
    with pytest.raises(AudioError, match=r"train0\.wav: holds no samples"):
        task_at(archive, 16000, cache)


def test_a_task_without_clips_is_refused(archive: Path, cache: Path) -> None:
    shutil.rmtree(archive / "48000")
    with pytest.raises(TaskError, match="holds no folder of clips"):
        task_at(archive, 16000, cache)


def test_a_cache_that_cannot_be_written_is_one_line(archive: Path, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(UserError, match="name another folder with --cache"):
        task_at(archive, 16000, cache)


RESAMPLE = """
import logging, sys
from pathlib import Path
from audio_barlow_twins.eval.tasks.resampled import task_at
logging.basicConfig(level=logging.INFO)
task_at(Path(sys.argv[1]), 16000, Path(sys.argv[2]))
"""


# A file that grows beyond the limit ends the process in the middle of writing.
KILLED_WRITING = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
"""


def start(archive: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RESAMPLE, archive, cache], text=True, stderr=subprocess.PIPE
    )


def wait_for(count: int, cache: Path, process: subprocess.Popen[str]) -> None:
    while len(written(cache)) < count:
        assert process.poll() is None, "ended before it could be disturbed"
        time.sleep(0.001)


def test_a_kill_in_the_middle_of_a_file_leaves_no_file(archive: Path, cache: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WRITING + RESAMPLE, archive, cache])
    assert done.returncode == -signal.SIGXFSZ
    assert any(path.stat().st_size == 10_000 for path in cache.rglob("*.tmp"))
    assert not written(cache)
    task = task_at(archive, 16000, cache)
    assert {soundfile.info(path).frames for path in files_of(task)} == {8000}
    assert not list(cache.rglob("*.tmp"))


def test_after_a_kill_only_what_is_missing_is_done(tmp_path: Path, cache: Path) -> None:
    archive = write_archive_task(tmp_path / "tasks" / "long", per_split=60, seconds=2.0)
    process = start(archive, cache)
    wait_for(5, cache, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = written(cache)
    assert 5 <= len(before) < 180
    assert all(soundfile.info(path).frames == 32000 for path in before)
    task = task_at(archive, 16000, cache)
    after = written(cache)
    assert len(after) == 180
    assert before.items() <= after.items()
    assert {*after} == {*files_of(task)}
    assert not list(cache.rglob("*.tmp"))


def test_of_two_processes_one_resamples_and_the_other_waits(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = write_archive_task(tmp_path / "tasks" / "long", per_split=40, seconds=2.0)
    process = start(archive, cache)
    wait_for(1, cache, process)
    with caplog.at_level(logging.INFO):
        task_at(archive, 16000, cache)
    assert "another process resamples it" in caplog.text
    assert "0 of 120 clips" in caplog.text
    assert process.wait() == 0
    process.communicate()
