"""Names in tars: every sound is a clip, labels find it, and what is left out is named."""

import io
import json
import logging
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tar_files import add_member, audio_of, clips_of, write_tar

from audio_barlow_twins.ingest.sources.clip import Clip
from audio_barlow_twins.ingest.sources.tars import Webdataset
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.files import ENDINGS
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import read_rows

PARTS = st.sampled_from(["a", "b", "a.b", "30.000_40.000", "..", ".", "", "é", "A"])
ENDS = st.sampled_from([*sorted(ENDINGS)[:6], ".WAV", ".json", ".txt", ".tar.gz", ""])
NAMES = st.builds(
    lambda folders, base, ending: "/".join([*folders, base + ending]),
    st.lists(PARTS, max_size=3),
    st.sampled_from(["a", "b.c", "s1.mix", "YTID_30.000_40.000", "x y"]),
    ENDS,
)


def labels(*names: str) -> bytes:
    """Return the JSON of a sound."""
    return json.dumps({"labels": names}).encode()


def origins(clips: list[Clip]) -> list[str]:
    """Return the names of clips in their tar."""
    return [clip.origin.partition("/")[2] for clip in clips]


@given(names=st.lists(NAMES, max_size=12))
def test_every_sound_is_a_clip_with_its_own_key_and_content(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    contents = [f"{number} {name}".encode() for number, name in enumerate(names)]
    path = tmp_path_factory.getbasetemp() / "any" / "a.tar"
    write_tar(path, zip(names, contents, strict=True))
    sounds = [
        content
        for name, content in zip(names, contents, strict=True)
        if Path(name).suffix.lower() in ENDINGS
    ]
    if not sounds:
        with pytest.raises(UserError, match="no audio in the tars"):
            clips_of(path, field="")
        return
    clips = clips_of(path, field="")
    assert [audio_of(clip) for clip in clips] == sounds
    assert len({clip.key for clip in clips}) == len({clip.origin for clip in clips}) == len(sounds)


def test_a_name_with_dots_keeps_all_of_it_but_the_ending(tmp_path: Path) -> None:
    names = ["YTID_30.000_40.000.wav", "s1.mix.wav", "s1.vocals.FLAC", "plain.wav"]
    clips = clips_of(write_tar(tmp_path / "a.tar", {name: b"x" for name in names}))
    assert origins(clips) == names
    stems = [re.sub("-[0-9a-f]{10}$", "", clip.key) for clip in clips]
    assert stems == ["YTID_30_000_40_000", "s1_mix", "s1_vocals", "plain"]


def test_segments_with_decimals_in_their_name_get_key_and_times(tmp_path: Path) -> None:
    names = ["a/--PJHxphWEs_30.000_40.000.wav", "./Y-0049jMplQo_1.5.flac", "2aaaaaaaaaa.wav"]
    path = write_tar(tmp_path / "a.tar", {name: b"x" for name in names})
    clips = Webdataset(urls=(str(path),), names="audioset").clips()
    assert [(clip.key, clip.start_s, clip.end_s) for clip in clips] == [
        ("--PJHxphWEs_30000", 30.0, 40.0),
        ("-0049jMplQo_1500", 1.5, None),
        ("2aaaaaaaaaa", None, None),
    ]


def test_a_json_of_the_same_name_wins_over_one_of_webdatasets_key(tmp_path: Path) -> None:
    members = {
        "s1.json": labels("song"),
        "s1.mix.wav": b"x",
        "s1.vocals.wav": b"x",
        "s1.vocals.json": labels("voice"),
        "d/y_30.000_40.000.wav": b"x",
        "d/y_30.000_40.000.json": labels("Dog"),
        "y_30.000_40.000.wav": b"x",
    }
    clips = clips_of(write_tar(tmp_path / "a.tar", members))
    assert [clip.labels for clip in clips] == [("song",), ("voice",), ("Dog",), ()]


def test_needless_parts_of_names_change_nothing(tmp_path: Path) -> None:
    plain = {"x.wav": b"x", "x.json": labels("Dog"), "d/y.wav": b"y", "d/y.json": labels("Cat")}
    dotted = {
        "./x.wav": b"x", "x.json": labels("Dog"), "/d//y.wav": b"y", "./d/./y.json": labels("Cat"),
    }  # fmt: skip
    one = clips_of(write_tar(tmp_path / "one" / "a.tar", plain))
    two = clips_of(write_tar(tmp_path / "two" / "a.tar", dotted))
    assert [(c.key, c.origin, c.labels) for c in one] == [(c.key, c.origin, c.labels) for c in two]


@pytest.mark.parametrize("name", ["s1.mix.wav", "./s1.mix.wav", "s1.mix", "s1"])
def test_a_csv_names_a_sound_with_or_without_ending_or_by_its_key(
    name: str, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "a.tar", {"./s1.mix.wav": b"x", "b.wav": b"x"})
    (tmp_path / "labels.csv").write_text(f"path,labels\n{name},dog; cat;dog\n")
    first, second = clips_of(path, labels=tmp_path / "labels.csv")
    assert (first.labels, second.labels) == (("dog", "cat"), ())


def test_a_row_of_a_csv_that_fits_no_sound_is_one_line(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"s1.mix.wav": b"x"})
    (tmp_path / "labels.csv").write_text("path,labels\ns1.mi,dog\n")
    with pytest.raises(UserError, match=r"names 1 files that are not .*s1\.mi"):
        clips_of(path, labels=tmp_path / "labels.csv")


def test_a_member_that_was_added_twice_is_two_clips_each_with_its_labels(tmp_path: Path) -> None:
    members = [("a.wav", b"1"), ("a.json", labels("one")), ("a.wav", b"2"), ("a.json", labels("2"))]
    clips = clips_of(write_tar(tmp_path / "a.tar", members))
    assert [(audio_of(clip), clip.labels) for clip in clips] == [(b"1", ("one",)), (b"2", ("2",))]
    assert origins(clips) == ["a.wav", "a#2.wav"]


def test_two_sounds_of_one_name_share_its_json(tmp_path: Path) -> None:
    members = {"s.wav": b"1", "s.mp3": b"2", "s.json": labels("both")}
    clips = clips_of(write_tar(tmp_path / "a.tar", members))
    assert [(audio_of(clip), clip.labels) for clip in clips] == [
        (b"1", ("both",)),
        (b"2", ("both",)),
    ]
    assert len({clip.key for clip in clips}) == 2


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.LNKTYPE, "d/a.wav"),
        (tarfile.LNKTYPE, "./d/a.wav"),
        (tarfile.SYMTYPE, "a.wav"),
        (tarfile.SYMTYPE, "../d/a.wav"),
        (tarfile.SYMTYPE, "data.bin"),
    ],
)
def test_a_link_inside_a_tar_is_the_sound_that_it_leads_to(
    kind: bytes, target: str, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "a.tar", {"d/a.wav": b"sound", "d/data.bin": b"sound"})
    add_member(path, "d/b.wav", kind, target)
    add_member(path, "c.wav", tarfile.SYMTYPE, "d/b.wav")
    clips = clips_of(path)
    assert origins(clips) == ["d/a.wav", "d/b.wav", "c.wav"]
    assert [audio_of(clip) for clip in clips] == [b"sound"] * 3


def test_a_json_may_be_a_link_as_well(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.wav": b"1", "a.json": labels("Dog"), "b.wav": b"2"})
    add_member(path, "b.json", tarfile.LNKTYPE, "a.json")
    assert [clip.labels for clip in clips_of(path)] == [("Dog",), ("Dog",)]


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "b.wav is a link to /etc/passwd, no file of this tar"),
        (tarfile.SYMTYPE, "../a.wav", "b.wav is a link to ../a.wav, no file of this tar"),
        (tarfile.LNKTYPE, "nothing.wav", "b.wav is a link to nothing.wav, no file of this tar"),
        (tarfile.SYMTYPE, "b.wav", "b.wav is a link to b.wav, no file of this tar"),
        (tarfile.FIFOTYPE, "", "b.wav is no file, but a member of type b'6'"),
        (tarfile.GNUTYPE_SPARSE, "", "b.wav is stored with holes, as a sparse file"),
    ],
)
def test_a_sound_without_content_is_planned_and_says_why(
    kind: bytes, target: str, reason: str, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.wav": b"sound"})
    add_member(path, "b.wav", kind, target)
    assert [(clip.key, clip.refused) for clip in clips_of(path)] == [("a", ""), ("b", reason)]


def test_what_is_left_out_is_counted_by_kind_and_named_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hidden = ["._a.wav", ".x/b.wav", "__MACOSX/c.wav", "d/PaxHeader/a.wav", "PaxHeaders.7/a.wav"]
    others = ["a.txt", "b.txt", "README", "none.json"]
    members = {name: b"{}" for name in [*others, *hidden, "a.wav", "a.json"]}
    with caplog.at_level(logging.INFO):
        clips = clips_of(write_tar(tmp_path / "t.tar", members))
    assert origins(clips) == ["a.wav"]
    (line,) = caplog.messages
    assert line == (
        "9 members of 1 tars are left out (5 hidden, 2 .txt, 1 no ending, 1 .json), first "
        "t.tar/a.txt, t.tar/b.txt, t.tar/README"
    )


ODD_JSON = {
    "broken": (b"{not json", "a.json cannot be read as JSON: Expecting property name"),
    "latin": ('{"labels": ["Käse"]}'.encode("latin1"), "a.json cannot be read as JSON: 'utf-8'"),
    "empty": (b"", "a.json cannot be read as JSON: Expecting value"),
    "deep": (b"[" * 50_000 + b"]" * 50_000, "a.json cannot be read as JSON: it is nested too deep"),
    "deep labels": (b'{"labels": %s}' % (b"[" * 50_000), "it is nested too deep"),
    "digits": (b'{"labels": %s}' % (b"9" * 5000), "a.json cannot be read as JSON: Exceeds"),
    "surrogate": (rb'{"labels": ["\ud800"]}', r'a.json: a label is "\ud800", wanted valid'),
    "object": (b'{"labels": {"a": 1}}', 'a.json: labels is {"a": 1}, wanted text, a whole'),
    "fraction": (b'{"labels": [0.5]}', "a.json: labels holds 0.5, wanted text, a whole"),
    "large": (b" " * ((1 << 24) + 1), "a.json has 16777217 bytes, more than 16777216"),
}


@pytest.mark.parametrize("kind", ODD_JSON)
def test_one_odd_json_is_one_clip_that_says_why(kind: str, tmp_path: Path) -> None:
    content, reason = ODD_JSON[kind]
    members = {"a.wav": b"x", "a.json": content, "b.wav": b"x", "b.json": labels("Dog")}
    odd, good = clips_of(write_tar(tmp_path / "a.tar", members))
    assert reason in odd.refused
    assert (odd.labels, good.labels, good.refused) == ((), ("Dog",), "")


def test_a_csv_or_no_field_makes_up_for_an_odd_json(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.wav": b"x", "a.json": b"{"})
    (tmp_path / "labels.csv").write_text("path,labels\na,dog\n")
    (given,) = clips_of(path, labels=tmp_path / "labels.csv")
    assert (given.labels, given.refused) == (("dog",), "")
    (unread,) = clips_of(path, field="")
    assert (unread.labels, unread.refused) == ((), "")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf{}", b"null", b"[1]", b'{"labels": null}'])
def test_a_json_without_the_field_is_no_label(content: bytes, tmp_path: Path) -> None:
    (clip,) = clips_of(write_tar(tmp_path / "a.tar", {"a.wav": b"x", "a.JSON": content}))
    assert (clip.labels, clip.refused) == ((), "")


def test_an_odd_entry_is_a_row_and_all_others_are_stored(
    tmp_path: Path, tone: Callable[..., np.ndarray]
) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, tone(0.2), 16000, format="WAV")
    members = {"a.wav": sound.getvalue(), "a.json": b"{", "b.c.wav": sound.getvalue()}
    path = write_tar(tmp_path / "a.tar", members)
    add_member(path, "z.wav", tarfile.SYMTYPE, "/etc/passwd")
    job = Job(out=tmp_path / "out", front_end=FrontEnd(), limits=DecodeLimits())
    (shard,) = Plan("webdataset", clips_of(path), 10)
    assert ingest_shard((job, shard)).outcomes == {"bad_entry": 2, "ok": 1}
    rows = read_rows(tmp_path / "out" / "logmel" / "shard-000000.parquet")
    assert [row.failure for row in rows] == ["bad_entry", None, "bad_entry"]
    assert rows[0].message == (
        "a.json cannot be read as JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)"
    )
