"""A real disk that is full: one line that says which, and what was finished is still there."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import noise, row, write_set

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.sidecar import Summary, write_sidecar
from audio_barlow_twins.shards.stored.statistics import Statistics
from audio_barlow_twins.shards.stored.verify import verify
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard

FORM = wave_form()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_shard_that_does_not_fit_is_one_line_and_leaves_the_finished_ones(
    small_disk: Path,
) -> None:
    folder = write_set(small_disk / "wave", FORM, [{"a": noise(FORM, 200_000, 0)}])
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def add(writer_name: str) -> None:
        with writing_shard(folder, writer_name, FORM, "plan") as writer:
            for number in range(10):
                writer.add(row(f"b{number}"), noise(FORM, 160_000, number))

    with pytest.raises(UserError) as caught:
        add(shard_name(1))
    message = str(caught.value)
    assert message.startswith(f"the disk of {folder} is full (No space left on device)")
    assert message.endswith("free some space and run the same command again")
    assert "\n" not in message
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not any(verify(folder))


def test_a_tar_that_fits_but_whose_sidecar_does_not_is_no_shard(small_disk: Path) -> None:
    fill = small_disk / "something else"
    fill.write_bytes(bytes(2 * 2**20 - 8192))
    summary = Summary(form=FORM, plan="", tar_bytes=0, n_ok=0, checksum="", statistics=Statistics())
    rows = [row(f"clip{number * 7919 % 100_003}" * 5) for number in range(5000)]
    with pytest.raises(UserError, match=f"the disk of {small_disk} is full"):
        write_sidecar(small_disk / "shard-000000.parquet", rows, summary)
    assert list(small_disk.iterdir()) == [fill]


def test_a_full_folder_for_temporary_files_is_named_as_itself(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))

    def fill_up() -> None:
        with replacing(tmp_path / "set" / "file"), (small_disk / "audio").open("wb") as file:
            file.write(bytes(3 * 2**20))

    with pytest.raises(UserError, match=f"the disk of {small_disk} is full"):
        fill_up()
    assert not list((tmp_path / "set").iterdir())


def test_another_trouble_with_files_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        (tmp_path / "missing").read_bytes()
