"""Keys of clips: what WebDataset and a tar header can hold, and a pure function of the paths."""

import posixpath
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.sources.clip import clip_keys, normal_name, told_apart

PARTS = st.one_of(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=30),
    st.sampled_from(["a", "a.b", "a_b", "a__b", "-a", "a-b", ".", "..", "é" * 120, "x" * 200]),
)
PATHS = st.builds(
    lambda parts, ending: "/".join(parts) + ending,
    st.lists(PARTS, min_size=1, max_size=4),
    st.sampled_from(["", ".wav", ".flac", ".WAV", ".tar.gz"]),
)
MANY_PATHS = st.lists(PATHS, max_size=30, unique=True)


@given(MANY_PATHS)
def test_keys_are_unique(paths: list[str]) -> None:
    assert len(set(clip_keys(paths))) == len(paths)


@given(MANY_PATHS)
def test_a_key_is_a_plain_name_that_fits_into_a_tar_header(paths: list[str]) -> None:
    for key in clip_keys(paths):
        assert re.fullmatch(r"[A-Za-z0-9_-]+", key)
        assert len(f"{key}.json".encode()) <= 100


@given(MANY_PATHS, st.integers(0, 99))
def test_keys_do_not_depend_on_the_order_of_the_paths(paths: list[str], seed: int) -> None:
    named = dict(zip(paths, clip_keys(paths), strict=True))
    shuffled = random.Random(seed).sample(paths, len(paths))
    assert dict(zip(shuffled, clip_keys(shuffled), strict=True)) == named


@given(MANY_PATHS, PATHS)
def test_another_file_renames_a_clip_only_if_their_plain_names_meet(
    paths: list[str], other: str
) -> None:
    before, after = clip_keys(paths), clip_keys([*paths, other])
    for path, old, new in zip(paths, before, after, strict=False):
        # A key is the name alone, or the name and a hash of the path where another has the name.
        assert new == old or re.fullmatch(re.escape(old[:80]) + "-[0-9a-f]{10}", new), path


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("YTID_30000.wav", "YTID_30000"),
        ("-abc_1.flac", "-abc_1"),
        ("a/b/c.opus", "a__b__c"),
        ("x" * 80 + ".wav", "x" * 80),
    ],
)
def test_a_plain_name_is_its_own_key(path: str, key: str) -> None:
    assert clip_keys([path]) == [key]


@pytest.mark.parametrize(
    "paths",
    [
        ["a.wav", "a.flac"],
        ["a/b.wav", "a__b.wav"],
        ["é.wav", "è.wav"],
        ["a.b.wav", "a_b.wav"],
        ["x" * 81 + ".wav", "x" * 82 + ".wav"],
    ],
)
def test_names_that_would_meet_are_told_apart_by_a_hash(paths: list[str]) -> None:
    first, second = clip_keys(paths)
    assert first != second
    assert re.search("-[0-9a-f]{10}$", first)


def test_nothing_is_cut_off_a_name_with_dots() -> None:
    keys = clip_keys(["t/0", "t/1", "t/2"], ["x.y.z.audio", "x.y.w.audio", "x.audio"])
    assert [re.sub("-[0-9a-f]{10}$", "", key) for key in keys] == ["x_y_z", "x_y_w", "x"]


@given(st.lists(PATHS, max_size=30))
def test_origins_are_told_apart_and_the_first_of_each_stays(paths: list[str]) -> None:
    origins = told_apart(paths)
    assert len(set(origins)) == len(origins) == len(paths)
    for number, (path, origin) in enumerate(zip(paths, origins, strict=True)):
        assert posixpath.splitext(origin)[1] == posixpath.splitext(path)[1]
        assert origin == path or path in origins[:number]


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("a/b.wav", "a/b.wav"),
        ("./a.wav", "a.wav"),
        ("././a//b/./c.wav", "a/b/c.wav"),
        ("/etc/x.wav", "etc/x.wav"),
        ("../x.wav", "../x.wav"),
        ("a/.b/..c.wav", "a/.b/..c.wav"),
    ],
)
def test_a_normal_name_has_no_needless_parts(name: str, normal: str) -> None:
    assert normal_name(name) == normal
