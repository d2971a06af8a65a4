"""The committed demo corpus is what its tables say it is."""

import csv
from collections import defaultdict
from pathlib import Path

import catalogue
import numpy as np
import pytest
import soundfile
from make_corpus import COLUMNS, DEMO, licences_of_dep5

AUDIO = DEMO / "audio"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (DEMO / "clips.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def test_clips_csv_lists_exactly_the_files(rows: list[dict[str, str]]) -> None:
    listed = [row["path"] for row in rows]
    on_disk = [str(path.relative_to(AUDIO)) for path in AUDIO.rglob("*") if path.is_file()]
    assert sorted(listed) == sorted(on_disk)


def test_file_names_are_clean_unique_keys_in_the_folder_of_their_class(
    rows: list[dict[str, str]],
) -> None:
    stems = [Path(row["path"]).stem for row in rows]
    assert len(set(stems)) == len(stems)
    assert all(stem.replace("_", "").isalnum() and stem.isascii() for stem in stems)
    assert all(row["path"].split("/")[0] == row["labels"] for row in rows)


def test_every_clip_is_free_and_names_its_author_and_source(rows: list[dict[str, str]]) -> None:
    assert {row["licence"] for row in rows} == {"CC0", "public domain"}
    assert all(row["author"] and row["source"].startswith("https://") for row in rows)


def test_sources_page_lists_every_file_with_its_source(rows: list[dict[str, str]]) -> None:
    page = (DEMO / "SOURCES.md").read_text()
    for row in rows:
        line = f"| {row['path']} | {row['author']} | <{row['source']}> | {row['licence']} |"
        assert line in page


def test_no_recording_is_on_two_folds(rows: list[dict[str, str]]) -> None:
    folds = defaultdict(set)
    for row in rows:
        if row["split"]:
            folds[row["recording"]].add(row["split"])
    assert all(len(splits) == 1 for splits in folds.values())


def test_one_source_upload_is_one_recording(rows: list[dict[str, str]]) -> None:
    recordings = defaultdict(set)
    for row in rows:
        if "/sounds/" in row["source"]:
            recordings[row["source"]].add(row["recording"])
    assert all(len(names) == 1 for names in recordings.values())


def test_every_class_of_the_task_is_in_every_fold(rows: list[dict[str, str]]) -> None:
    folds = defaultdict(set)
    for row in rows:
        if row["split"]:
            folds[row["labels"]].add(row["split"])
    assert len(folds) >= 10
    assert all(splits == set(catalogue.FOLDS) for splits in folds.values())


def test_the_folds_are_about_equally_large(rows: list[dict[str, str]]) -> None:
    sizes = [sum(row["split"] == fold for row in rows) for fold in catalogue.FOLDS]
    assert max(sizes) - min(sizes) <= 3


def test_the_sounds_are_mono_audible_unclipped_and_five_to_fifteen_minutes() -> None:
    total_s = 0.0
    for path in AUDIO.rglob("*.opus"):
        wave, sample_rate = soundfile.read(path, dtype="float32")
        assert wave.ndim == 1, path
        assert len(wave) / sample_rate >= 0.064, path
        assert 0.05 < np.abs(wave).max() < 1.0, path
        total_s += len(wave) / sample_rate
    assert 5 * 60 <= total_s <= 15 * 60


def test_folds_do_not_depend_on_the_order_of_the_clips(rows: list[dict[str, str]]) -> None:
    clips = [
        catalogue.Clip(
            stem=Path(row["path"]).stem,
            label=row["labels"],
            recording=row["recording"],
            author=row["author"],
            source=row["source"],
            licence=row["licence"],
        )
        for row in rows
    ]
    folds = {clip.path: clip.split for clip in catalogue.assign_folds(reversed(clips))}
    assert folds == {row["path"]: row["split"] for row in rows}


def test_a_copyright_file_gives_each_listed_path_its_licence() -> None:
    text = (
        "Format: x\n\nFiles: *\nLicense: MIT\n\n"
        "Files:\n a.flac\n b.flac\nCopyright: 2014 A\nhttp://example.org/a\nLicense: CC0\n text\n\n"
        "License: CC0\n the full text\n"
    )
    assert licences_of_dep5(text) == {"*": "MIT", "a.flac": "CC0", "b.flac": "CC0"}


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="no class for clip 'kazoo1'"):
        catalogue.class_of("kazoo1")
