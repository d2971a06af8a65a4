"""Several sources as one list: by identity, in order, audio from the first that has it."""

import re

import pytest

from audio_barlow_twins.ingest.fill import compose
from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.shards.base.errors import UserError


def listed(key: str, source: str = "audioset", **more) -> Clip:
    """Make a clip of a list."""
    return Clip(key=key, source=source, path=f"/{source}/{key}", origin=key, **more)


ONE = listed("--PJHxphWEs_30000", labels=("a",), start_s=30.0, end_s=40.0, cut="needed", video=True)
TWO = listed("--ZhevVpy1s_50000", labels=("b",), start_s=50.0, end_s=60.0, cut="needed", video=True)


def sources_of(clip: Clip) -> list[str]:
    """Name the sources that a clip is tried from."""
    return [clip.source, *(other.source for other in clip.others)]


def test_clips_of_one_key_are_one_clip_of_several_sources() -> None:
    clips = compose([[ONE, TWO], [listed(TWO.key, "tars"), listed("new", "tars")]])
    assert [(clip.key, sources_of(clip)) for clip in clips] == [
        (ONE.key, ["audioset"]),
        (TWO.key, ["audioset", "tars"]),
        ("new", ["tars"]),
    ]


def test_labels_and_times_come_from_the_first_source_that_knows_them() -> None:
    (clip,) = compose(
        [[listed(ONE.key, "tars", start_s=30.0)], [ONE], [listed(ONE.key, "x", labels=("z",))]]
    )
    assert [(c.labels, c.start_s, c.end_s) for c in (clip, *clip.others)] == [
        (("a",), 30.0, 40.0)
    ] * 3


@pytest.mark.parametrize("order", [1, -1])
def test_a_video_named_without_a_time_is_the_segment_that_a_list_names(order: int) -> None:
    bare = listed("--PJHxphWEs", "folder", cut="perhaps")
    (clip,) = compose([[bare], [ONE]][::order])
    assert clip.key == ONE.key
    assert sources_of(clip) == ["folder", "audioset"][::order]
    parts = {c.source: (c.cut, c.start_s, c.end_s) for c in (clip, *clip.others)}
    assert parts == {"folder": ("perhaps", 30.0, 40.0), "audioset": ("needed", 30.0, 40.0)}


def test_a_video_that_no_list_names_stays_as_it_is() -> None:
    bare = listed("-_a_b_c_d_e", "folder", cut="perhaps")
    assert compose([[bare], [ONE]])[0] == listed("-_a_b_c_d_e", "folder")


@pytest.mark.parametrize("order", [1, -1])
def test_a_video_of_two_segments_must_be_named_with_its_time(order: int) -> None:
    other = listed("--PJHxphWEs_90000", start_s=90.0, end_s=100.0)
    bare = listed("--PJHxphWEs", "folder")
    with pytest.raises(UserError, match=re.escape("--PJHxphWEs could be --PJHxphWEs_30000 or")):
        compose([[bare], [ONE, other]][::order])


def test_one_source_alone_is_left_as_it_is() -> None:
    assert compose([[ONE, TWO]]) == [ONE, TWO]
