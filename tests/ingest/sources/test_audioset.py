"""AudioSet's lists: read as published, checked against their own header, cheap in memory."""

import re
from pathlib import Path

import pytest

from audio_barlow_twins.ingest.sources.lists.annotations import with_events
from audio_barlow_twins.ingest.sources.lists.audioset import audioset_clips
from audio_barlow_twins.shards.base.errors import UserError

ROWS = [
    '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"',
    '--ZhevVpy1s, 50.000, 60.000, "/m/012xff"',
    '-_a_b_c_d_e, 0.000, 7.500, "/m/09x0r"',
]
HEADER = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
"""
LABELS = 'index,mid,display_name\n0,/m/09x0r,"Speech, of people"\n1,/m/012xff,Toot\n'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write a list as Google publishes it."""
    path = tmp_path / "eval_segments.csv"
    path.write_text(HEADER + "\n".join(ROWS) + "\n")
    return path


def test_a_list_is_read_row_by_row(table: Path) -> None:
    clips = audioset_clips([table])
    assert [(c.key, c.path, c.labels, c.start_s, c.end_s) for c in clips] == [
        ("--PJHxphWEs_30000", "https://www.youtube.com/watch?v=--PJHxphWEs",
         ("/m/09x0r", "/t/dd00088"), 30.0, 40.0),
        ("--ZhevVpy1s_50000", "https://www.youtube.com/watch?v=--ZhevVpy1s",
         ("/m/012xff",), 50, 60),
        ("-_a_b_c_d_e_0", "https://www.youtube.com/watch?v=-_a_b_c_d_e", ("/m/09x0r",), 0, 7.5),
    ]  # fmt: skip
    assert all(c.video and c.cut == "needed" for c in clips)


def test_it_is_a_sequence_like_a_list_of_its_clips(table: Path) -> None:
    clips = audioset_clips([table])
    plain = list(clips)
    assert len(clips) == len(plain) == 3
    assert [clips[i] for i in (0, 1, 2, -1)] == [*plain, plain[-1]]
    assert clips[1:] == plain[1:]
    assert clips[:1] == plain[:1]
    assert clips[5:] == []
    with pytest.raises(IndexError):
        clips[3]


def test_display_names_replace_the_mids_they_are_known_for(table: Path, tmp_path: Path) -> None:
    names = tmp_path / "class_labels_indices.csv"
    names.write_text(LABELS)
    clips = audioset_clips([table], names)
    assert clips[0].labels == ("Speech, of people", "/t/dd00088")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("num_segs=3", "num_segs=4", "says num_segs=4 and holds 3"),
        ("num_positive_labels=4", "num_positive_labels=5", "num_positive_labels=5 and holds 4"),
        ("num_ytids=3", "num_ytids=2", "says num_ytids=2 and holds 3"),
        ("num_unique_labels=3", "num_unique_labels=9", "num_unique_labels=9 and holds 3"),
        ("# Segments", "--aaaaaaaaa, 1, 2, x\n# Segments", "line 4"),
        ("30.000", "x", "line 4: wanted YTID"),
        ("30.000", "inf", "line 4: wanted YTID"),
        ("40.000", "1e300", "line 4: wanted YTID"),
        ("40.000", "nan", "line 4: wanted YTID"),
        ("30.000", "50.000", "line 4: '--PJHxphWEs, 50.000, 40.000"),
        ("--ZhevVpy1s", "--PJHxphWEs/..", "is no segment"),
        ('"/m/012xff"', "", "line 5"),
        (HEADER, "YTID,start,end,labels\n", "comment lines"),
    ],
)
def test_a_list_that_is_not_whole_or_not_one_is_refused(
    table: Path, old: str, new: str, words: str
) -> None:
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(UserError, match=re.escape(words)):
        audioset_clips([table])


def test_a_list_given_twice_is_refused(table: Path) -> None:
    with pytest.raises(UserError, match="3 segments are listed twice"):
        audioset_clips([table, table])


def test_a_list_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as a list of segments"):
        audioset_clips([tmp_path / "none.csv"])


STRONG = """segment_id\tstart_time_seconds\tend_time_seconds\tlabel
--PJHxphWEs_30000\t0.000\t2.500\t/m/09x0r
-_a_b_c_d_e_0\t1.000\t1.200\t/m/012xff
--PJHxphWEs_30000\t2.0\t10.000\t/m/012xff
zzzzzzzzzzz_0\t2.0\t10.000\t/m/012xff
"""


def test_strong_labels_become_events_in_the_order_of_the_table(table: Path, tmp_path: Path) -> None:
    tsv = tmp_path / "strong.tsv"
    tsv.write_text(STRONG)
    clips = with_events(audioset_clips([table]), [tsv], {"/m/012xff": "Toot"})
    assert [clip.events for clip in clips] == [
        (("/m/09x0r", 0, 2.5), ("Toot", 2, 10)),
        (),
        (("Toot", 1, 1.2),),
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("segment_id\t", "id\t", "lacks the columns"),
        ("2.500", "x", "cannot be read as strong labels"),
        ("0.000\t2.500", "3.0\t2.5", "line 2: an event lasts from 3 s to 2.5 s"),
        ("_30000", "_1", "line 3"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    table: Path, tmp_path: Path, old: str, new: str, words: str
) -> None:
    tsv = tmp_path / "strong.tsv"
    tsv.write_text(STRONG.replace(old, new))
    if words == "line 3":
        tsv.write_text(STRONG.replace("_30000", "_1").replace("-_a_b_c_d_e_0", "x"))
        words = "none of 3 segments is in the lists"
    with pytest.raises(UserError, match=re.escape(words)):
        with_events(audioset_clips([table]), [tsv], {})
