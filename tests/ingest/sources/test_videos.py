"""Any list of videos: columns by name or number, odd rows with their reasons, none lost."""

import csv
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.fill import compose
from audio_barlow_twins.ingest.run import SOURCES
from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.lists.listed import LATEST_S, milliseconds
from audio_barlow_twins.ingest.sources.lists.rows import is_youtube, split_labels
from audio_barlow_twins.ingest.sources.lists.videos import VideoList
from audio_barlow_twins.shards.base.cli import parse
from audio_barlow_twins.shards.base.errors import UserError

A, B = "--PJHxphWEs", "-_a_b_c_d_e"
VGGSOUND = f'{A},30,"female speech, woman speaking",train\n{B},1,people marching,test\n'
MUSICCAPS = f"""ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id
{A},30,40,"/m/0140xf,/m/02cjck","['low quality', 'sad']","A ballad, sad.",4
{B},260,270,/m/0395lw,"['mono']",Loud bells.,4
"""
AUDIOCAPS = f"""audiocap_id,youtube_id,start_time,caption
97151,{A},130,"Ducks quack, water splashes"
108945,{B},60,An audience gives applause
107898,{A},130,A person blows a duck call
107899,{A},130,"Ducks quack, water splashes"
"""


def listed(tmp_path: Path, text: str, name: str = "list.csv", **options: Any) -> list[Clip]:
    """List the clips of a file with this content."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return list(VideoList(lists=(path,), **options).clips())


def times(clips: list[Clip]) -> list[tuple[str, float | None, float | None]]:
    return [(clip.key, clip.start_s, clip.end_s) for clip in clips]


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    text = f"label,id,to,from\nx; y ;;x,{A},12.5,2.25\n"
    (clip,) = listed(
        tmp_path, text, id_field="id", start_field="from", end_field="to", label_field="label"
    )
    assert (clip.key, clip.labels) == (f"{A}_2250", ("x", "y"))
    assert (clip.start_s, clip.end_s, clip.cut, clip.video) == (2.25, 12.5, "needed", True)
    assert clip.path == f"https://www.youtube.com/watch?v={A}"


def test_columns_by_number_count_from_one_and_there_is_no_header(tmp_path: Path) -> None:
    clips = listed(tmp_path, f"x,{A},5\ny,{B},7\n", id_field="2", start_field="3", length_s=4)
    assert times(clips) == [(f"{A}_5000", 5, 9), (f"{B}_7000", 7, 11)]


def test_a_number_and_a_name_may_stand_side_by_side(tmp_path: Path) -> None:
    clips = listed(tmp_path, f"id,at\n{A},5\n", id_field="1", start_field="at", length_s=1)
    assert times(clips) == [(f"{A}_5000", 5, 6)]


def test_tabs_separate_the_columns_of_a_tsv(tmp_path: Path) -> None:
    text = f"{A}\tone, two\n"
    (clip,) = listed(tmp_path, text, "list.tsv", id_field="1", label_field="2")
    assert clip.labels == ("one, two",)


def test_without_times_a_clip_is_a_whole_video(tmp_path: Path) -> None:
    (clip,) = listed(tmp_path, f"{A}\n", id_field="1")
    assert (clip.key, clip.start_s, clip.end_s, clip.cut) == (A, None, None, "done")


def test_a_length_alone_takes_the_beginning(tmp_path: Path) -> None:
    assert times(listed(tmp_path, f"{A}\n", id_field="1", length_s=3)) == [(f"{A}_0", 0, 3)]


def test_the_form_of_vggsound(tmp_path: Path) -> None:
    clips = listed(tmp_path, VGGSOUND, layout="vggsound")
    assert times(clips) == [(f"{A}_30000", 30, 40), (f"{B}_1000", 1, 11)]
    assert clips[0].labels == ("female speech, woman speaking",)
    assert clips[0].source == "videos list"


@pytest.mark.parametrize(("split", "ids"), [("train", [A]), ("test", [B]), ("", [A, B])])
def test_a_split_of_vggsound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, split: str, ids: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    clips = listed(tmp_path, VGGSOUND, layout="vggsound", split=split)
    assert [clip.origin for clip in clips] == ids
    assert ("1 rows are left out" in caplog.text) == bool(split)


def test_the_form_of_musiccaps_with_display_names(tmp_path: Path) -> None:
    names = tmp_path / "class_labels_indices.csv"
    names.write_text("index,mid,display_name\n0,/m/0395lw,Bell\n")
    clips = listed(tmp_path, MUSICCAPS, layout="musiccaps", class_labels=names)
    assert times(clips) == [(f"{A}_30000", 30, 40), (f"{B}_260000", 260, 270)]
    assert [clip.labels for clip in clips] == [("/m/0140xf", "/m/02cjck"), ("Bell",)]


def test_a_field_may_differ_from_the_layouts(tmp_path: Path) -> None:
    aspects = {"label_field": "aspect_list", "label_separator": ";"}
    clips = listed(tmp_path, MUSICCAPS, layout="musiccaps", **aspects)
    assert [clip.labels for clip in clips] == [("low quality", "sad"), ("mono",)]


def test_the_captions_of_a_clip_of_audiocaps_become_its_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips = listed(tmp_path, AUDIOCAPS, layout="audiocaps")
    assert times(clips) == [(f"{A}_130000", 130, 140), (f"{B}_60000", 60, 70)]
    assert clips[0].labels == ("Ducks quack, water splashes", "A person blows a duck call")
    (line,) = caplog.messages
    assert "2 rows list a video and start again" in line
    assert "1 have further labels" in line


def test_a_row_that_is_listed_twice_is_counted_and_kept_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"{A},1,2\n{B},1,2\n{A},1,2\n{A},1,3\n{A},2,3\n"
    clips = listed(tmp_path, text, id_field="1", start_field="2", end_field="3")
    assert times(clips) == [(f"{A}_1000", 1, 2), (f"{B}_1000", 1, 2), (f"{A}_2000", 2, 3)]
    assert "2 rows list" in caplog.text
    assert "0 have further labels, which it gets, and 1 another end" in caplog.text


ODD = {
    "inf,5": "its start is 'inf', wanted seconds in a recording",
    "1e300,5": "its start is '1e300'",
    "nan,5": "its start is 'nan'",
    "-1,5": "its start is '-1'",
    "0,1e300": "its end is '1e300'",
    "x,5": "its start is 'x'",
    ",5": "its start is ''",
    "5,5": "it ends at 5 s, and starts at 5 s",
    "6,5": "it ends at 5 s, and starts at 6 s",
    "5": "it has 2 columns, wanted 3",
}


@pytest.mark.parametrize("odd", ODD)
def test_a_row_with_odd_times_is_refused_with_its_reason_and_its_line(
    tmp_path: Path, odd: str
) -> None:
    text = f"{B},0,9\n{A},{odd}\n{A},0,9\n"
    clips = listed(tmp_path, text, id_field="1", start_field="2", end_field="3")
    assert [bool(clip.refused) for clip in clips] == [False, True, False]
    assert clips[1].refused.startswith(f"line 2 of list.csv: {ODD[odd]}")
    assert (clips[1].origin, clips[1].start_s, clips[1].end_s) == (A, None, None)
    assert len({clip.key for clip in clips}) == 3


@pytest.mark.parametrize(
    "odd",
    [
        "short",
        "twelve_chars",
        "a b c d e f",
        "",
        "file:///passwd",
        "http://",
        "https://[",
        "A" * 500,
    ],
)
def test_an_id_that_is_none_is_refused(tmp_path: Path, odd: str) -> None:
    clips = listed(tmp_path, f"{A},1\n{odd},1\n", id_field="1")
    assert [bool(clip.refused) for clip in clips] == [False, True]
    assert "\n" not in clips[1].refused
    assert len(clips[1].key) < 100


def test_a_list_without_a_row_that_can_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 2 rows can be used; line 1 of list.csv: 'id' is"):
        listed(tmp_path, "id,0\nother,1\n", id_field="1")


def test_refused_rows_are_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed(tmp_path, f"{A}\nx\ny\n", id_field="1")
    assert len(caplog.messages) == 1
    assert "2 rows cannot be used and fail; line 2" in caplog.text


def test_the_same_odd_row_in_two_lists_is_two_clips(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(f"{A},{folder}\nx,1\nx,1\n")
    lists = (tmp_path / "one" / "a.csv", tmp_path / "two" / "a.csv")
    clips = list(VideoList(lists=lists, id_field="1", label_field="2").clips())
    assert len({clip.key for clip in clips}) == len(clips) == 5
    assert clips[0].labels == ("one", "two")


@pytest.mark.parametrize(
    "address",
    [
        f"https://www.youtube.com/watch?v={A}",
        f"https://www.youtube.com/watch?list=x&v={A}&t=3",
        f"http://youtu.be/{A}?t=3",
        f"https://m.youtube.com/shorts/{A}",
        f"https://www.youtube.com/embed/{A}",
    ],
)
def test_an_address_of_youtube_is_its_id(tmp_path: Path, address: str) -> None:
    (clip,) = listed(tmp_path, f'"{address}",1\n', id_field="1", start_field="2", length_s=1)
    assert clip.key == f"{A}_1000"
    assert clip.path == f"https://www.youtube.com/watch?v={A}"


def test_other_addresses_are_their_own_pages_with_plain_keys(tmp_path: Path) -> None:
    text = "https://vimeo.com/1,3\nhttps://vimeo.com/1,4\nhttps://vimeo.com/1.5,3\n"
    clips = listed(tmp_path, text, id_field="1", start_field="2", length_s=1)
    assert [clip.path for clip in clips] == [line.split(",")[0] for line in text.split()]
    assert [clip.origin for clip in clips] == [clip.path for clip in clips]
    assert all(clip.key.replace("_", "").replace("-", "").isalnum() for clip in clips)
    assert len({clip.key for clip in clips}) == 3


def test_ids_of_another_site_need_its_address(tmp_path: Path) -> None:
    page = "https://vimeo.com/"
    clips = listed(tmp_path, "76979871\n2\n", id_field="1", page=page)
    assert [clip.key for clip in clips] == ["76979871", "2"]
    assert [clip.path for clip in clips] == ["https://vimeo.com/76979871", "https://vimeo.com/2"]


def test_the_key_of_another_id_is_never_that_of_a_segment(tmp_path: Path) -> None:
    text = f"{A}_30000,\n{A},30\nY{A},\n"
    clips = listed(tmp_path, text.replace(",\n", ",0\n"), id_field="1", start_field="2", length_s=1,
                   page="https://site/")  # fmt: skip
    assert len({clip.key for clip in clips}) == 3
    clips = listed(tmp_path, f"{A}_30000\nY{A}\n", id_field="1", page="https://site/")
    assert not {clip.key for clip in clips} & {f"{A}_30000", f"Y{A}"}


def test_only_addresses_of_youtube_are_its(tmp_path: Path) -> None:
    assert is_youtube("https://music.youtube.com/watch?v=")
    assert not is_youtube("https://notyoutube.com/watch?v=")
    assert not is_youtube("https://youtube.com.evil.org/")


def test_lists_fill_the_gaps_of_each_other(tmp_path: Path) -> None:
    vggsound = listed(tmp_path, VGGSOUND, layout="vggsound")
    others = listed(tmp_path, MUSICCAPS, "music.csv", layout="musiccaps")
    (both,) = (clip for clip in compose([vggsound, others]) if clip.others)
    assert (both.key, both.others[0].source) == (f"{A}_30000", "videos music")


def test_strong_labels_become_events(tmp_path: Path) -> None:
    strong = tmp_path / "strong.tsv"
    strong.write_text(
        "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
        f"{B}_1000\t0.5\t2.0\tSteps\nnone\t0\t1\tx\n"
    )
    clips = listed(tmp_path, VGGSOUND, layout="vggsound", strong=(strong,))
    assert [clip.events for clip in clips] == [(), (("Steps", 0.5, 2.0),)]
    strong.write_text(strong.read_text().replace("2.0", "inf"))
    with pytest.raises(UserError, match=r"line 2: an event lasts from 0\.5 s to inf s"):
        listed(tmp_path, VGGSOUND, layout="vggsound", strong=(strong,))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "say which column holds the ids"),
        ({"id_field": "0"}, "A number counts columns from 1"),
        ({"id_field": "nothing"}, "no column 'nothing'; it has a, b, b"),
        ({"id_field": "b"}, "two columns 'b'"),
        ({"id_field": "a", "start_field": "b"}, "give --end-field or --length-s"),
        ({"id_field": "a", "end_field": "b", "length_s": 1.0}, "give one of them"),
        ({"id_field": "a", "length_s": math.inf}, "--length-s is inf"),
        ({"id_field": "a", "length_s": -1.0}, "--length-s is -1"),
        ({"id_field": "a", "split": "train"}, "needs --split-field"),
        ({"layout": "musiccaps"}, "no column 'ytid'"),
        ({"id_field": "a", "split": "x", "split_field": "a"}, "no row of the split x"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as told:
        listed(tmp_path, f"a,b,b\n{A},1,2\n", **options)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", None])
def test_a_file_that_is_no_list_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"no row is listed|cannot be read as a list"):
        VideoList(lists=(path,), id_field="1").clips()


@pytest.mark.parametrize(
    ("text", "separator", "labels"),
    [
        ("a;b", ";", ["a", "b"]),
        (" a ; ;a;  b  c ", ";", ["a", "b c"]),
        ("a, b", "", ["a, b"]),
        ("['a, x', \"it's\"]", ";", ["a, x", "it's"]),
        (r"['it\'s']", ";", ["it's"]),
        ("[a, b]", ";", ["a", "b"]),
        ("[]", ";", []),
        ("[music]; x", ";", ["[music]", "x"]),
        ("", ";", []),
    ],
)
def test_labels_of_a_cell(text: str, separator: str, labels: list[str]) -> None:
    assert split_labels(text, separator) == labels


@given(st.floats() | st.integers().map(float))
def test_a_time_is_in_a_recording_or_refused(seconds: float) -> None:
    try:
        found = milliseconds(str(seconds))
    except ValueError:
        assert not 0 <= seconds <= LATEST_S
    else:
        assert abs(found / 1000 - seconds) <= 0.0006


@given(st.lists(st.lists(st.text(max_size=12), max_size=4), max_size=8))
def test_no_row_is_lost_whatever_it_holds(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "list.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([[A, "0", "1"], *rows])
    with path.open(newline="", encoding="utf-8-sig") as file:
        read = [row for row in csv.reader(file, skipinitialspace=True) if row]
    source = VideoList(lists=(path,), id_field="1", start_field="2", end_field="3")
    clips = list(source.clips())
    assert sum(not clip.refused for clip in clips) == 1
    assert len({clip.key for clip in clips}) == len(clips) == len(read)


def test_the_command_line_takes_the_source(tmp_path: Path) -> None:
    words = [str(tmp_path / "a.csv"), "--layout", "vggsound", "--split", "test"]
    source = parse(SOURCES["videos"], "videos", words)
    assert (source.layout, source.split) == ("vggsound", "test")
