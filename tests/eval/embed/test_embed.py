import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from embed_bench import Bench
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audio_barlow_twins.eval.embed import files as extract
from audio_barlow_twins.eval.embed.embed import Embed
from audio_barlow_twins.eval.embed.files import (
    Failed,
    FileEmbedding,
    Sound,
    embed_files,
    passes,
    read_ahead,
)
from audio_barlow_twins.eval.hear import get_scene_embeddings
from audio_barlow_twins.eval.sound.audio import AudioError, read_audio
from audio_barlow_twins.ingest.sources.folder import folder_clips
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.base.transfer import HostCopy

DEMO = Path(__file__).parents[3] / "ingest" / "sources" / "demo" / "audio"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sounds of many lengths and rates; some of one length, some of one number of frames."""
    folder = tmp_path_factory.mktemp("sounds")
    sources = sorted(DEMO.glob("*/*.opus"))
    paths = []
    for i, n_samples in enumerate([16000, 1, 16000, 8000, 16010, 700, 16000, 40000, 8000, 16010]):
        path = folder / f"{i}.wav"
        soundfile.write(
            path, np.resize(read_audio(sources[20 * i], 16000), n_samples), 16000, "FLOAT"
        )
        paths.append(path)
    return [*paths, *sources[:3]]


def test_embeddings_are_those_of_each_file_alone_in_the_order_of_the_files(
    files: list[Path], hear_model: Embedder
) -> None:
    rows = list(embed_files(files, hear_model))
    assert [row.file for row in rows] == files
    for row in rows:
        wave = read_audio(row.file, 16000)
        alone = get_scene_embeddings(torch.from_numpy(wave)[None], hear_model)[0]
        assert row.duration_s == len(wave) / 16000
        np.testing.assert_allclose(row.embedding, alone, atol=1e-5)


def test_an_embedding_does_not_depend_on_loud_neighbours_in_its_pass(
    hear_model: Embedder, tmp_path: Path
) -> None:
    quiet = 1e-3 * np.sin(np.arange(16000) / 20)
    loud = np.random.default_rng(0).uniform(-1, 1, 16000)
    for name, wave in (("quiet", quiet), ("loud", loud)):
        soundfile.write(tmp_path / f"{name}.wav", wave, 16000, "FLOAT")
    crowd = [tmp_path / "loud.wav"] * 3 + [tmp_path / "quiet.wav"] + [tmp_path / "loud.wav"] * 3
    (alone,) = embed_files([tmp_path / "quiet.wav"], hear_model)
    together = list(embed_files(crowd, hear_model))[3]
    np.testing.assert_allclose(together.embedding, alone.embedding, atol=1e-5)


def test_a_pass_is_fetched_once_the_next_one_is_begun(
    files: list[Path], hear_model: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told = list[int](), list[int]()
    encode, result = Embedder.encode, HostCopy.result

    def encoding(model: Embedder, log_mel: Tensor) -> Tensor:
        begun.append(len(log_mel))
        return encode(model, log_mel)

    def fetched(copy: HostCopy) -> Tensor:
        told.append(len(begun))
        return result(copy)

    monkeypatch.setattr(Embedder, "encode", encoding)
    monkeypatch.setattr(HostCopy, "result", fetched)
    assert len(list(embed_files(files, hear_model))) == len(files)
    last = len(begun)
    assert last > 3
    assert told == [*range(2, last + 1), last]


@given(
    lengths=st.lists(st.sampled_from([1, 600, 1600, 1650, 16000, 32000]), max_size=30),
    per_pass=st.integers(1, 400),
    most_waiting=st.integers(1, 250),
)
def test_every_sound_is_in_one_pass_of_sounds_with_as_many_frames(
    lengths: list[int], per_pass: int, most_waiting: int, hear_model: Embedder
) -> None:
    sounds = [Sound(Path(str(i)), np.zeros(n, np.float32)) for i, n in enumerate(lengths)]
    taken = gone = 0

    def arriving() -> Iterator[Sound]:
        nonlocal taken
        for sound in sounds:
            yield sound
            taken += max(len(sound.wave), 513) // 160 + 1
            assert taken - gone <= most_waiting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract, "FRAMES_PER_PASS", {"cpu": per_pass})
        patch.setattr(extract, "FRAMES_WAITING", most_waiting)
        seen: list[int] = []
        for part in passes(arriving(), hear_model):
            frames = [max(len(sound.wave), 513) // 160 + 1 for _, sound in part]
            assert len(set(frames)) == 1
            assert len(frames) == 1 or sum(frames) <= per_pass
            assert all(sounds[i] is sound for i, sound in part)
            gone += sum(frames)
            seen += [i for i, _ in part]
    assert sorted(seen) == list(range(len(lengths)))


def test_files_are_read_a_bounded_number_ahead(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "READ_AHEAD", 3)
    asked: list[Path] = []
    sounds = read_ahead((asked.append(file) or file for file in files), 16000)  # type: ignore[func-returns-value]
    for count, _ in enumerate(sounds):
        assert len(asked) <= count + 3
        if count == 5:
            sounds.close()  # type: ignore[attr-defined]
            break
    assert len(asked) == 8


def test_without_leave_the_first_bad_file_raises(
    files: list[Path], hear_model: Embedder, broken: Path
) -> None:
    with pytest.raises(AudioError, match=r"broken\.wav: ffmpeg cannot decode it"):
        list(embed_files([*files[:2], broken, files[2]], hear_model))


def test_with_leave_bad_files_are_told_and_left_out(
    files: list[Path], hear_model: Embedder, broken: Path, tmp_path: Path
) -> None:
    told: list[Failed] = []
    given = [broken, files[0], tmp_path / "missing.wav", files[1], broken]
    rows: list[FileEmbedding] = list(embed_files(given, hear_model, told.append))
    assert [row.file for row in rows] == files[:2]
    assert [failed.file.name for failed in told] == ["broken.wav", "missing.wav", "broken.wav"]
    assert told[1].reason == "cannot be opened: No such file or directory"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"not a sound")
    return path


@pytest.fixture
def embed(checkpoint_path: Path, tmp_path: Path) -> Callable[..., Path]:
    def command(*given: Path, skip_bad: bool) -> Path:
        out = tmp_path / "out" / "embeddings.parquet"
        config = Embed(
            files=given, checkpoint=checkpoint_path, out=out, skip_bad=skip_bad, device="cpu"
        )
        config.run()
        return out

    return command


def test_skipped_files_are_rows_of_a_list_beside_the_table(
    embed: Callable[..., Path], files: list[Path], broken: Path
) -> None:
    out = embed(files[0], broken, files[1], skip_bad=True)
    assert pq.read_table(out)["file"].to_pylist() == [str(files[0]), str(files[1])]
    (line,) = out.with_name("embeddings.failed.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["file"] == str(broken)
    assert row["reason"].startswith("ffmpeg cannot decode it")


def test_a_folder_is_embedded_with_all_that_an_ingest_would_take(
    embed: Callable[..., Path], ffmpeg: Callable[..., None], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = tmp_path / "mixed"
    (folder / "sub").mkdir(parents=True)
    source = sorted(DEMO.glob("*/*.opus"))[0]
    for name in ("a.wav", "b.m4a", "c.webm", "sub/d.mp3", "e.mka", "f.mp4"):
        ffmpeg("-i", source, folder / name)
    (folder / "._a.wav").write_bytes(b"\0\5\x16\7")
    (folder / "notes.txt").write_text("none")
    shutil.copy(folder / "a.wav", os.fsencode(folder) + b"/caf\xe9.wav")
    caplog.set_level(logging.INFO)
    stored = pq.read_table(embed(folder, skip_bad=False))
    names = [str(Path(name).relative_to(folder)) for name in stored["file"].to_pylist()]
    taken = [clip.origin for clip in folder_clips(folder)]
    assert sorted(names) == sorted(taken)
    assert "caf\\xe9.wav" in names
    assert len(names) == 7
    assert "2 files below" in caplog.text
    assert "1 hidden" in caplog.text


def test_the_list_goes_when_nothing_is_bad_any_more(
    embed: Callable[..., Path], files: list[Path], broken: Path
) -> None:
    embed(files[0], broken, skip_bad=True)
    out = embed(files[0], skip_bad=True)
    assert [path.name for path in out.parent.iterdir()] == ["embeddings.parquet"]


def test_the_bench_prints_both_speeds_and_their_ratio(
    checkpoint_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Bench(checkpoint=checkpoint_path, clips=3, seconds=0.5, rounds=1, device="cpu").run()
    machine, extraction, bare, ratio = capsys.readouterr().out.splitlines()
    assert "3 clips, 2 s of sound" in machine
    speeds = [float(line.split("clips/s")[0].split()[-1]) for line in (extraction, bare)]
    assert float(ratio.split()[1]) == pytest.approx(speeds[0] / speeds[1], abs=0.02, rel=0.02)
