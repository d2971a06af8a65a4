"""Two sets side by side: what one lacks, and what its ledger says of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.stage.ledger import NOT_PLANNED, differences
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.sidecar import Row
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard

NOISE = np.random.default_rng(0).integers(-99, 99, 600, dtype=np.int16)


def write(folder: Path, *shards: dict[str, str]) -> Path:
    """Write shards of clips by key; '' is a clip that is there, else the class of its failure."""
    for number, clips in enumerate(shards):
        with writing_shard(folder, shard_name(number), wave_form(), "plan") as writer:
            for key, failure in clips.items():
                known = {"key": key, "source": "test", "source_version": "1", "origin": key}
                if failure:
                    message = f"{key} is lost"
                    writer.fail(
                        Row(**known, labels=[], status="failed", failure=failure, message=message)
                    )
                else:
                    writer.add(Row(**known, labels=[], status="ok"), NOISE)
    return folder


def test_a_clip_that_failed_in_the_other_set_comes_with_its_reason(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"x": "", "y": "", "z": "network"})
    second = write(tmp_path / "b", {"x": ""}, {"y": "bad_audio"})
    (found,) = differences(first, second)
    assert (found.key, found.present_in, found.missing_in) == ("y", first, second)
    assert (found.reason, found.message) == ("bad_audio", "y is lost")


def test_a_clip_that_was_never_planned_says_so(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"x": ""})
    second = write(tmp_path / "b", {"y": ""})
    assert [(d.key, d.missing_in, d.reason) for d in differences(first, second)] == [
        ("x", second, NOT_PLANNED),
        ("y", first, NOT_PLANNED),
    ]


def test_a_clip_that_a_later_try_got_is_there(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"x": ""})
    for order in ([{"x": "network"}, {"x": ""}], [{"x": ""}, {"x": "network"}]):
        second = write(tmp_path / str(order[0]), *order)
        assert list(differences(first, second)) == []


keys = st.sampled_from("abcdef")
sets = st.dictionaries(keys, st.sampled_from(["", "network", "bad_audio"]), min_size=1)


@given(sets, sets)
def test_the_differences_are_those_of_the_sets_of_clips_that_are_there(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, str], other: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("sets")
    a, b = write(folder / "a", one), write(folder / "b", other)
    there = [{key for key, failure in clips.items() if not failure} for clips in (one, other)]
    found = list(differences(a, b))
    assert {d.key for d in found if d.missing_in == b} == there[0] - there[1]
    assert {d.key for d in found if d.missing_in == a} == there[1] - there[0]


def test_the_command_counts_by_reason_with_examples(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"x": "", "y": "", "z": "", "only": ""})
    second = write(tmp_path / "b", {"x": "", "y": "bad_audio", "z": "bad_audio"})
    command = [
        sys.executable,
        "-m",
        "audio_barlow_twins",
        "ingest",
        "diff",
        str(first),
        str(second),
        "--examples",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"2 clips are missing in {second}: bad_audio",
        "    y: y is lost",
        f"1 clips are missing in {second}: not planned",
        "    only",
        "3 differences",
    ]


def test_a_folder_without_shards_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        list(differences(write(tmp_path / "a", {"x": ""}), tmp_path / "b"))
