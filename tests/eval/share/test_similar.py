import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audio_barlow_twins.eval.embed import files as extract
from audio_barlow_twins.eval.embed.embed import Embed
from audio_barlow_twins.eval.share.similar import Similar, embedded_once, known_as, rank, read_table
from audio_barlow_twins.eval.sound.audio import AudioError, read_audio
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.base.errors import UserError

CLAIM = "c" * 64
Load = Callable[[], Embedder]
DEMO = Path(__file__).parents[3] / "ingest" / "sources" / "demo" / "audio"


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Some demo sounds in a folder of their own: bells, kicks and a copy of a bell."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for label in ("bell", "kick"):
        for sound in sorted((DEMO / label).glob("*.opus"))[:3]:
            shutil.copy(sound, folder / f"{label}_{sound.name}")
    first = min(folder.glob("bell_*"))
    shutil.copy(first, folder / "copy.opus")
    return folder


@pytest.fixture
def load(hear_model: Embedder) -> Load:
    return lambda: hear_model


def never() -> Embedder:
    raise AssertionError("something was embedded anew")


def test_nearest_by_cosine_come_first() -> None:
    query = np.array([1, 0, 0], np.float32)
    vectors = {
        "opposite": [-2, 0, 0],
        "same": [5, 0, 0],
        "right angle": [0, 3, 0],
        "45°": [7, 7, 0],
    }
    others = [(Path(name), np.array(values, np.float32)) for name, values in vectors.items()]
    found = rank(query, others, k=3)
    assert [file.name for file, _ in found] == ["same", "45°", "right angle"]
    assert [cosine for _, cosine in found] == pytest.approx([1, np.sqrt(0.5), 0])


def test_a_vector_of_zeros_is_near_to_nothing() -> None:
    zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert rank(one, [(Path("silence"), zero)], k=1)[0][1] == 0


def test_an_empty_collection_is_refused() -> None:
    with pytest.raises(UserError, match="no other sound"):
        rank(np.ones(2, np.float32), [], k=1)


def test_a_second_call_embeds_nothing(collection: Path, load: Load, tmp_path: Path) -> None:
    files, cache = sorted(collection.iterdir()), tmp_path / "cache.parquet"
    made = embedded_once(files, cache, CLAIM, load)
    found = embedded_once(files, cache, CLAIM, never)
    assert list(found) == list(made) == [known_as(file) for file in files]
    for file in made:
        np.testing.assert_array_equal(found[file], made[file])


def test_only_a_file_that_has_changed_is_embedded_anew(
    collection: Path, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files, cache = sorted(collection.iterdir()), tmp_path / "cache.parquet"
    kick, bell = files[-1], files[0]
    made = embedded_once(files, cache, CLAIM, load)
    shutil.copy(bell, kick)
    changed = embedded_once(files, cache, CLAIM, load)
    os.utime(bell, ns=(0, bell.stat().st_mtime_ns + 1))
    embedded_once(files, cache, CLAIM, load)
    assert caplog.messages == ["7 files, 7 to embed", "7 files, 1 to embed", "7 files, 1 to embed"]
    np.testing.assert_allclose(changed[known_as(kick)], made[known_as(bell)], atol=1e-5)


def test_the_cache_of_another_model_is_not_used(
    collection: Path, load: Load, tmp_path: Path
) -> None:
    files, cache = sorted(collection.iterdir()), tmp_path / "cache.parquet"
    embedded_once(files, cache, CLAIM, load)
    with pytest.raises(AssertionError, match="embedded anew"):
        embedded_once(files, cache, "d" * 64, never)


def test_what_was_embedded_before_an_interruption_is_kept(
    collection: Path, hear_model: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, cache = sorted(collection.iterdir()), tmp_path / "cache.parquet"
    monkeypatch.setattr(extract, "FRAMES_PER_PASS", {"cpu": 1})  # a clip a pass
    beginning = iter(range(2))

    def interrupted(path: Path, sample_rate: int, max_s: float) -> np.ndarray:
        if path == files[4] and next(beginning) == 0:
            raise KeyboardInterrupt
        return read_audio(path, sample_rate, max_s)

    monkeypatch.setattr(extract, "read_audio", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded_once(files, cache, CLAIM, lambda: hear_model)
    assert 2 <= pq.read_metadata(cache).num_rows <= 4
    assert len(embedded_once(files, cache, CLAIM, lambda: hear_model)) == 7


def test_a_file_that_cannot_be_read_is_left_out_and_named(
    collection: Path, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (collection / "broken.wav").write_bytes(b"not a sound")
    found = embedded_once(sorted(collection.iterdir()), tmp_path / "cache.parquet", CLAIM, load)
    assert len(found) == 7
    assert [text.split("/")[-1].split(" ")[0] for text in caplog.messages] == ["broken.wav:"]


def test_links_and_pipes_in_a_folder_are_left_out_and_named(
    collection: Path, load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (collection / "loop.wav").symlink_to("loop.wav")
    (collection / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(collection / "pipe.wav")
    found = embedded_once(sorted(collection.iterdir()), tmp_path / "cache.parquet", CLAIM, load)
    assert len(found) == 7
    named = [text.split(": left out:")[0].split("/")[-1] for text in caplog.messages]
    assert sorted(named) == ["gone.wav", "loop.wav", "pipe.wav"]


@pytest.fixture
def run(
    collection: Path, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Run the command for the bell that has a copy; return its lines."""

    def command(place: Path = collection, **settings: object) -> list[str]:
        Similar(
            clip=min(collection.glob("bell_*")),
            collection=place,
            checkpoint=checkpoint_path,
            cache=tmp_path / "cache.parquet",
            device="cpu",
            **settings,  # type: ignore[arg-type]
        ).run()
        return capsys.readouterr().out.splitlines()

    return command


def test_the_command_lists_the_copy_first_and_the_clip_itself_not_at_all(
    run: Callable[..., list[str]], collection: Path
) -> None:
    head, *lines = run(k=4)
    assert head == "cosine  file"
    assert lines[0] == f"1.0000  {collection / 'copy.opus'}"
    assert len(lines) == 4
    assert str(min(collection.glob("bell_*"))) not in " ".join(lines)
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_a_table_that_embed_wrote_gives_the_same_list(
    run: Callable[..., list[str]], collection: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "embeddings.parquet"
    Embed(files=(collection,), checkpoint=checkpoint_path, out=out, device="cpu").run()
    assert run(out) == run(collection)


def test_a_table_of_another_model_is_refused(
    collection: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "embeddings.parquet"
    Embed(files=(collection,), checkpoint=checkpoint_path, out=out, device="cpu").run()
    with pytest.raises(UserError, match="wanted cccccccccccc…; embed the files again"):
        read_table(out, CLAIM)


def test_what_is_no_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or file"):
        read_table(tmp_path / "nowhere", CLAIM)
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(UserError, match=r"text\.parquet: cannot be read as Parquet"):
        read_table(tmp_path / "text.parquet", CLAIM)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="has no columns file and embedding"):
        read_table(tmp_path / "other.parquet", CLAIM)


def test_a_clip_that_cannot_be_read_is_refused(
    run: Callable[..., list[str]], collection: Path
) -> None:
    min(collection.glob("bell_*")).write_bytes(b"not a sound")
    with pytest.raises(AudioError, match="cannot be used"):
        run()


def test_the_page_plays_the_clip_and_what_is_near(
    run: Callable[..., list[str]], collection: Path, tmp_path: Path
) -> None:
    lines = run(k=2, html=tmp_path / "similar.html")
    text = (tmp_path / "similar.html").read_text()
    assert text.count("<audio") == 3
    for line in lines[1:]:
        cosine, file = line.split()
        assert f"<b>{Path(file).relative_to(collection)}</b><span>cosine {cosine}</span>" in text
