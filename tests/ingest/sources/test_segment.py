"""Names of segments: as lists, mirrors and downloaders write them, and what only looks like one."""

import re
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.segment import Segment, named_by_segment, parse_segment
from audio_barlow_twins.shards.base.errors import UserError

ytids = st.text(string.ascii_letters + string.digits + "_-", min_size=11, max_size=11)
starts = st.integers(0, 40_000)


def clip_of(origin: str) -> Clip:
    """Plan a file as a folder does, under a key that says nothing."""
    return Clip(key="x", source="folder", path=f"/data/{origin}", origin=origin)


@given(ytid=ytids, start_s=starts)
def test_one_number_is_the_start_in_seconds(ytid: str, start_s: int) -> None:
    assert parse_segment(f"{ytid}_{start_s}") == Segment(ytid, start_s * 1000)


@given(ytid=ytids, start_s=starts, length_s=st.integers(1, 10))
def test_two_numbers_are_seconds_or_milliseconds_by_their_distance(
    ytid: str, start_s: int, length_s: int
) -> None:
    wanted = Segment(ytid, start_s * 1000, (start_s + length_s) * 1000)
    assert parse_segment(f"{ytid}_{start_s}_{start_s + length_s}") == wanted
    assert parse_segment(f"{ytid}_{start_s}000_{start_s + length_s}000") == wanted
    assert parse_segment(f"{ytid}_{start_s}.000_{start_s + length_s}.000") == wanted


@given(ytid=ytids, start_ms=st.integers(0, 9_999_999), length_ms=st.integers(1, 60_000))
def test_zeros_before_the_start_are_those_of_a_piece_of_any_recording(
    ytid: str, start_ms: int, length_ms: int
) -> None:
    assert parse_segment(f"{ytid}_{start_ms:08d}_{start_ms + length_ms:08d}") is None


@given(ytid=ytids)
def test_a_name_alone_has_no_time_and_may_be_behind_a_y(ytid: str) -> None:
    assert parse_segment(ytid) == parse_segment(f"Y{ytid}") == Segment(ytid)


@given(ytid=ytids, start_s=starts)
def test_the_key_is_the_id_and_the_start_in_milliseconds(ytid: str, start_s: int) -> None:
    assert Segment(ytid, start_s * 1000).key == f"{ytid}_{start_s * 1000}"


@pytest.mark.parametrize("name", ["", "short", "has a space", "--PJHxphWEs_x", "twelve-chars!"])
def test_other_names_are_no_segment(name: str) -> None:
    assert parse_segment(name) is None


def test_files_get_the_key_and_times_of_their_names() -> None:
    named = named_by_segment(
        [clip_of("a/--PJHxphWEs_30.000_40.000.wav"), clip_of("b_b-b_b-b_b.m4a")]
    )
    assert [(c.key, c.start_s, c.end_s, c.cut) for c in named] == [
        ("--PJHxphWEs_30000", 30.0, 40.0, "done"),
        ("b_b-b_b-b_b", None, None, "perhaps"),
    ]


def test_a_key_that_only_looks_like_an_id_names_nothing() -> None:
    # Cleaned, the path a/bcdefghi is the eleven characters a__bcdefghi.
    clip = replace(clip_of("a/bcdefghi.wav"), key="a__bcdefghi")
    with pytest.raises(UserError, match="is not named YTID"):
        named_by_segment([clip])


def test_the_name_in_a_key_column_wins_over_the_file() -> None:
    clip = replace(clip_of("t/0/0/--PJHxphWEs_30.wav"), name="audio/-0049jMplQo_1.500_2.5")
    (named,) = named_by_segment([clip])
    assert (named.key, named.start_s, named.end_s) == ("-0049jMplQo_1500", 1.5, 2.5)


@pytest.mark.parametrize(
    ("origins", "words"),
    [
        (["kick drum.wav"], "kick drum.wav is not named YTID"),
        (["--PJHxphWEs_30.wav", "more/--PJHxphWEs_30.flac"], "are the same segment"),
    ],
)
def test_a_foreign_name_and_a_segment_twice_are_refused(origins: list[str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        named_by_segment([clip_of(origin) for origin in origins])
