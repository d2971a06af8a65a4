"""Long recordings: what becomes of them, from the plan to the stored pieces."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tar_files import write_tar

from audio_barlow_twins.ingest.errors import NetworkTrouble
from audio_barlow_twins.ingest.fill import compose
from audio_barlow_twins.ingest.report.report import Page
from audio_barlow_twins.ingest.run import Ingest, command_of
from audio_barlow_twins.ingest.sources.clip import Clip, Event
from audio_barlow_twins.ingest.sources.segment import parse_segment
from audio_barlow_twins.ingest.sources.source import LONGEST_S, Pieces
from audio_barlow_twins.ingest.stage import durations as measuring
from audio_barlow_twins.ingest.stage import measured
from audio_barlow_twins.ingest.stage.durations import durations
from audio_barlow_twins.ingest.stage.pieces import in_pieces
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.retry import Again, plan_supplements
from audio_barlow_twins.ingest.stage.stage import ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.errors import DecoderStopped
from audio_barlow_twins.shards.decode.reading import Length
from audio_barlow_twins.shards.decode.sound import decode, duration_of
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.shardset import sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import Row, read_clip, read_rows

LEAST = 513
LIMITS = DecodeLimits()
TENS = Pieces(10, 10)
Tone = Callable[..., np.ndarray]


def clip(key: str = "a", **more: Any) -> Clip:
    """Make a clip of a recording."""
    return Clip(key=key, source="folder x", path=f"/x/{key}.wav", origin=f"{key}.wav", **more)


def spans(seconds: float, pieces: Pieces = TENS) -> list[tuple[int, int]]:
    """Cut one recording; return first samples and ends."""
    made = in_pieces([clip()], [Length(seconds)], pieces, LEAST)
    return [(round((c.start_s or 0) * 16000), round((c.end_s or 0) * 16000)) for c in made]


@given(
    n_samples=st.integers(480_001, 3_000_000),
    piece_s=st.floats(0.1, 60),
    hop_s=st.none() | st.floats(0.1, 60),
)
def test_pieces_begin_at_every_hop_and_reach_the_end(
    n_samples: int, piece_s: float, hop_s: float | None
) -> None:
    piece, hop = round(piece_s * 16000), round((hop_s or piece_s) * 16000)
    found = spans(n_samples / 16000, Pieces(piece_s, hop_s or piece_s))
    assert [begin for begin, _ in found] == [hop * k for k in range(len(found))]
    assert all(LEAST <= end - begin < piece + LEAST for begin, end in found)
    assert all(end - begin == piece for begin, end in found[:-1])
    assert n_samples - LEAST < max(found[-1][1], found[-1][0] + hop) or found[-1][1] == n_samples
    if hop <= piece:
        assert found[-1][1] == n_samples


@given(n_samples=st.integers(480_001, 3_000_000))
def test_without_a_hop_every_sample_is_in_one_piece(n_samples: int) -> None:
    found = spans(n_samples / 16000)
    assert found[0][0] == 0
    assert [end for _, end in found[:-1]] == [begin for begin, _ in found[1:]]
    assert found[-1][1] == n_samples


def test_what_is_no_longer_than_the_limit_stays_as_it_is() -> None:
    clips = [clip("a"), clip("b"), clip("c")]
    made = in_pieces(clips, [Length(LONGEST_S), Length(0.1), None], TENS, LEAST)
    assert [each.length_s for each in made] == [LONGEST_S, 0.1, None]
    assert [each.cut for each in made] == ["done", "done", "unmeasured"]
    assert [replace(each, length_s=None, cut="done") for each in made] == clips


def test_pieces_are_named_by_their_times() -> None:
    made = in_pieces([clip("field")], [Length(31.25)], TENS, LEAST)
    assert [each.key for each in made] == [
        "field_00000000_00010000",
        "field_00010000_00020000",
        "field_00020000_00030000",
        "field_00030000_00031250",
    ]


def test_long_names_stay_apart_and_fit_a_tar() -> None:
    keys = [f"{'n' * 85}{number}" for number in range(3)]
    made = in_pieces([clip(key) for key in keys], [Length(60.0)] * 3, TENS, LEAST)
    assert len({each.key for each in made}) == 18
    assert max(len(each.key) for each in made) <= 95


def test_a_file_that_is_named_as_a_piece_keeps_its_key_and_the_piece_gets_another() -> None:
    clips = [clip("a"), clip("a_00010000_00020000")]
    made = in_pieces(clips, [Length(40.0), Length(5.0)], TENS, LEAST)
    assert len({each.key for each in made}) == 5
    assert made[-1].key == "a_00010000_00020000"
    assert made[1].key.startswith("a-")
    assert made[1].key.endswith("_00010000_00020000")


def test_keys_of_recordings_beyond_a_day_fit_a_tar() -> None:
    made = in_pieces([clip("n" * 77)], [Length(100_100.0)], Pieces(1000, 1000), LEAST)
    assert len({each.key for each in made}) == len(made)
    assert max(len(each.key) for each in made) <= 95


def test_an_event_without_length_is_in_the_piece_that_begins_with_it() -> None:
    events = (Event("click", 0, 0), Event("click", 10, 10), Event("click", 25, 25))
    long = clip(labels=("click",), events=events, timed=("click",))
    made = in_pieces([long], [Length(40.0)], TENS, LEAST)
    assert [len(each.events) for each in made] == [1, 1, 1, 0]
    assert [each.labels for each in made] == [("click",)] * 3 + [()]


def test_a_piece_of_eleven_characters_is_no_segment_of_a_video() -> None:
    (first, *_) = in_pieces([clip("abcdefghijk")], [Length(60.0)], TENS, LEAST)
    assert parse_segment(first.key) is None
    assert parse_segment("abcdefghijk_30000_40000") is not None
    pieces = in_pieces([clip("abcdefghijk")], [Length(60.0)], TENS, LEAST)
    assert [each.key for each in compose([pieces, [clip("other")]])][:-1] == [p.key for p in pieces]


def test_labels_with_times_go_to_the_pieces_in_which_they_hold() -> None:
    events = (Event("dog", 8.5, 12), Event("cat", 30, 31), Event("bee", 10, 10.5))
    timed = ("dog", "cat", "bee")
    long = clip(labels=("park", *timed), events=events, timed=timed)
    made = in_pieces([long], [Length(40.0)], TENS, LEAST)
    assert [each.labels for each in made] == [
        ("park", "dog"), ("park", "dog", "bee"), ("park",), ("park", "cat"),
    ]  # fmt: skip
    assert [each.events for each in made] == [
        (Event("dog", 8.5, 10),),
        (Event("dog", 0, 2), Event("bee", 0, 0.5)),
        (),
        (Event("cat", 0, 1),),
    ]


@given(
    # Whole and half seconds, so that events meet the edges of pieces.
    times=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 30)), max_size=8),
    piece_s=st.integers(1, 20),
    hop_s=st.integers(1, 20),
    length_s=st.floats(30.1, 50),
)
def test_an_event_is_in_every_piece_that_holds_some_of_it_or_its_onset(
    times: list[tuple[int, int]], piece_s: int, hop_s: int, length_s: float
) -> None:
    events = tuple(
        Event(str(i), start / 2, (start + more) / 2) for i, (start, more) in enumerate(times)
    )
    made = in_pieces([clip(events=events)], [Length(length_s)], Pieces(piece_s, hop_s), LEAST)
    for each in made:
        start_s, end_s = each.start_s, each.end_s
        assert start_s is not None
        assert end_s is not None
        assert [event.label for event in each.events] == [
            event.label
            for event in events
            if max(event.start_s, start_s) < min(event.end_s, end_s)
            or start_s <= event.start_s < end_s
        ]


@pytest.mark.parametrize(
    ("option", "value"),
    [("piece_s", 0), ("piece_s", -1), ("hop_s", 0), ("hop_s", 0.15), ("piece_s", float("nan"))],
)
def test_pieces_without_a_length_are_refused(tmp_path: Path, option: str, value: float) -> None:
    folder: Any = command_of(Ingest, "folder")
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} (is|0.15 is too short)"):
        folder(root=tmp_path, out=str(tmp_path / "out"), **{option: value})


@pytest.fixture
def field(tmp_path: Path, tone: Tone, ffmpeg: Callable[..., None]) -> Path:
    """Make a folder of field recordings: short ones, long ones, one that is broken inside."""
    root = tmp_path / "field"
    root.mkdir()
    noise = 0.2 * np.random.default_rng(0).standard_normal(16000 * 95)
    soundfile.write(root / "long.wav", noise[: 16000 * 61 + 100], 16000)
    soundfile.write(tmp_path / "source.wav", noise, 16000)
    source = ("-i", tmp_path / "source.wav")
    ffmpeg(*source, "-c:a", "libmp3lame", "-write_xing", "0", root / "bare.mp3")
    ffmpeg(*source, "-t", "29.9", root / "short.m4a")
    soundfile.write(root / "damaged.flac", noise, 16000)
    content = bytearray((root / "damaged.flac").read_bytes())
    content[45 * len(content) // 100] ^= 0x10
    (root / "damaged.flac").write_bytes(content)
    (root / "none.wav").write_bytes(b"")
    (root.parent / "events.csv").write_text(
        "path,labels,start_s,end_s\nlong.wav,loud;river,,\nlong.wav,bird;loud,15,25.5\n"
    )
    return root


def prepared(root: Path, **options: Any) -> tuple[Any, list[Clip]]:
    """List the clips of a folder as the command does."""
    command: Any = command_of(Ingest, "folder")
    job, clips = command(root=root, out=str(root.parent / "out"), **options).prepare()
    return job, list(clips)


def stored(out: Path) -> dict[str, tuple[Row, np.ndarray | None]]:
    """Read rows and samples of a wave set by key."""
    found = {}
    for path in sidecar_paths(out / "wave"):
        with path.with_suffix(".tar").open("rb") as tar:
            for row in read_rows(path):
                wave = read_clip(tar, row, wave_form()) if row.status == "ok" else None
                found[row.key] = row, wave
    return found


def test_long_recordings_are_stored_in_pieces_to_the_last_sample(
    field: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, clips = prepared(field, labels=field.parent / "events.csv")
    assert "3 recordings longer than 30 s became 27 pieces" in capsys.readouterr().out
    for shard in Plan("folder", clips, 10):
        ingest_shard((job, shard))
    found = stored(job.out)
    for name in ("long.wav", "bare.mp3"):
        whole = decode(str(field / name), LIMITS)
        parts = [wave for row, wave in found.values() if row.origin == name]
        joined = np.concatenate([part for part in parts if part is not None])
        assert len(joined) == len(whole)
        assert np.abs(joined.astype(int) - whole).max() <= 1
    row, _ = found["long_00020000_00030000"]
    assert (row.labels, row.start_s, row.end_s) == (["loud", "river", "bird"], 20, 30)
    assert row.events == [
        {"label": "bird", "start_s": 0, "end_s": 5.5}, {"label": "loud", "start_s": 0, "end_s": 5.5}
    ]  # fmt: skip
    assert found["long_00050000_00060000"][0].labels == ["loud", "river"]
    failed = {key: row.failure for key, (row, _) in found.items() if row.status != "ok"}
    assert failed == {"damaged_00040000_00050000": "bad_audio", "none": "bad_audio"}
    assert found["short"][0].status == "ok"


def test_events_behind_the_end_are_counted_and_named(
    field: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "path,labels,start_s,end_s\nlong.wav,owl,900,901\nlong.wav,owl,60,62\n"
    (field.parent / "late.csv").write_text(rows)
    prepared(field, labels=field.parent / "late.csv")
    said = "1 events begin after the end of their recordings, the first is owl at 900 s of long.wav"
    assert said in capsys.readouterr().out


def test_every_second_of_sound_is_accounted_for(field: Path, tone: Tone) -> None:
    job, clips = prepared(field)
    for shard in Plan("folder", clips, 10):
        ingest_shard((job, shard))
    page = Page.of(job.out)
    paths = [path for path in field.iterdir() if path.stat().st_size]
    exact_s = [duration_of(str(path), LIMITS, 0).seconds for path in paths]
    main = page._parts[job.out / "wave"].tally()
    assert main.refused == [("bad_audio", 10.0, 1)]
    assert main.stored_s + 10 == pytest.approx(sum(exact_s), abs=1e-3)
    text = page.sound()
    assert text.startswith(f"{sum(exact_s):.1f} s in: {sum(exact_s) - 10:.1f} s stored")
    assert text.endswith("refused 10.0 s bad_audio; 1 clips of unknown length failed")
    assert "<h2>Seconds</h2>" in page.write().read_text()


@pytest.mark.parametrize(
    ("ending", "encoder"),
    [("mkv", "aac"), ("webm", "libopus"), ("ogg", "libvorbis"), ("flv", "aac"), ("wma", "wmav2")],
)
def test_sound_behind_damage_counts_in_the_length(
    tmp_path: Path, field: Path, ffmpeg: Callable[..., None], ending: str, encoder: str
) -> None:
    path = tmp_path / f"a.{ending}"
    ffmpeg("-i", tmp_path / "source.wav", "-ar", 48000 if "opus" in encoder else 44100,
           "-c:a", encoder, path)  # fmt: skip
    whole_s = duration_of(str(path), LIMITS, 29).seconds
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content)
    assert duration_of(str(path), LIMITS, 29).seconds == pytest.approx(whole_s, abs=0.5)


def test_a_flac_that_holds_more_than_its_header_says_is_measured(
    tmp_path: Path, field: Path
) -> None:
    soundfile.write(tmp_path / "a.flac", soundfile.read(tmp_path / "source.wav")[0], 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    begin, end = 21, 26  # the last 36 bits of these are the number of samples
    head = int.from_bytes(content[begin:end], "big")
    content[begin:end] = (head - 16000 * 60).to_bytes(5, "big")
    (tmp_path / "a.flac").write_bytes(content)
    assert soundfile.info(tmp_path / "a.flac").duration == 35
    assert duration_of(str(tmp_path / "a.flac"), LIMITS, 29) == Length(95)


def test_what_may_follow_the_end_that_can_be_read_is_a_refused_row(
    tmp_path: Path, field: Path, ffmpeg: Callable[..., None]
) -> None:
    fragments = ("-movflags", "frag_keyframe+empty_moov", "-frag_duration", 5_000_000)
    path = field / "live.mp4"
    ffmpeg("-i", tmp_path / "source.wav", "-c:a", "aac", *fragments, path)
    content = bytearray(path.read_bytes())
    fragment = content.index(b"moof", len(content) // 2)
    content[fragment - 1500 : fragment + 1500] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content)
    for _ in range(2):  # measured, then remembered
        job, clips = prepared(field)
        *rows, last = [clip for clip in clips if clip.origin == "live.mp4"]
        end_s = rows[-1].end_s
        assert end_s is not None
        assert 40 < end_s < 60
        assert (last.start_s, last.end_s) == (end_s, None)
        said = f"what follows {end_s:.2f} s, if anything does, cannot be read: "
        assert last.refused.startswith(said)
    (shard,) = Plan("folder", [*rows, last], 10)
    ingest_shard((job, shard))
    statuses = [row.status for row, _ in stored(job.out).values()]
    assert statuses[:4] + statuses[-2:] == ["ok"] * 4 + ["failed"] * 2
    said = Page.of(job.out).sound()
    assert said.startswith(f"{end_s:.1f} s in: ")
    assert said.endswith("s bad_audio; 1 clips of unknown length failed")


def test_joined_flac_files_are_refused_and_not_stored_in_part(tmp_path: Path, field: Path) -> None:
    sound = soundfile.read(tmp_path / "source.wav")[0][: 35 * 16000]
    soundfile.write(tmp_path / "one.flac", sound, 16000)
    (field / "two.flac").write_bytes((tmp_path / "one.flac").read_bytes() * 2)
    job, clips = prepared(field)
    (two,) = [clip for clip in clips if clip.origin == "two.flac"]
    (shard,) = Plan("folder", [two], 10)
    ingest_shard((job, shard))
    ((row, _),) = stored(job.out).values()
    assert row.failure == "bad_audio"


def test_a_piece_that_comes_short_is_refused(field: Path, tone: Tone) -> None:
    job, clips = prepared(field)
    soundfile.write(field / "long.wav", tone(23), 16000)
    pieces = [clip for clip in clips if clip.origin == "long.wav"]
    (shard,) = Plan("folder", pieces, 100)
    ingest_shard((job, shard))
    rows = [row for row, _ in stored(job.out).values()]
    assert [row.status for row in rows] == ["ok"] * 2 + ["failed"] * (len(rows) - 2)
    assert rows[2].message == "only 3.00 s of its 10.00 s can be read"


@pytest.mark.parametrize(("hop_s", "said"), [(5.0, "0.13 h of 0.07 h"), (20.0, "0.04 h of 0.07 h")])
def test_pieces_that_overlap_or_leave_gaps_are_said_to(
    field: Path, capsys: pytest.CaptureFixture[str], hop_s: float, said: str
) -> None:
    prepared(field, hop_s=hop_s)
    assert f", because of --hop-s {said} recorded" in capsys.readouterr().out


def test_a_second_run_measures_nothing_and_a_changed_file_alone(
    field: Path, tone: Tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = list[str]()
    real = measuring.duration_of

    def counted(path: str, *rest: Any) -> Length:
        measured.append(Path(path).name)
        return real(path, *rest)

    monkeypatch.setattr(measuring, "duration_of", counted)
    _, first = prepared(field)
    assert len(measured) == 5
    measured.clear()
    _, second = prepared(field)
    assert (second, measured) == (first, [])
    soundfile.write(field / "long.wav", tone(45), 16000)
    prepared(field)
    assert measured == ["long.wav"]


def test_an_interrupted_measuring_keeps_what_it_has(
    field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = measuring.duration_of, Counter[str]()

    def interrupted(path: str, *rest: Any) -> Length:
        calls[Path(path).name] += 1
        if Path(path).name == "none.wav" and calls["none.wav"] == 1:
            raise KeyboardInterrupt
        return real(path, *rest)

    monkeypatch.setattr(measuring, "duration_of", interrupted)
    clips = [clip(path.stem) for path in sorted(field.iterdir())]
    clips = [
        Clip(key=c.key, source="s", path=str(p), origin=p.name)
        for c, p in zip(clips, sorted(field.iterdir()), strict=True)
    ]
    with pytest.raises(KeyboardInterrupt):
        durations(clips, field.parent / "out", LIMITS, threads=1)
    found = durations(clips, field.parent / "out", LIMITS, threads=1)
    assert calls["bare.mp3"] == 1
    assert found[-1] is not None
    assert found[-1].seconds == pytest.approx(29.9, abs=0.1)


def test_recordings_that_cannot_be_measured_stay_whole_and_are_counted(
    field: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, clips = prepared(field)
    assert "1 recordings cannot be measured and stay whole" in capsys.readouterr().out
    assert [each.cut for each in clips if each.key == "none"] == ["unmeasured"]


def test_an_unmeasured_recording_that_turns_out_long_is_refused_and_not_stored_uncut(
    field: Path,
) -> None:
    job, clips = prepared(field)
    (field / "none.wav").write_bytes((field / "long.wav").read_bytes())
    unmeasured = [clip for clip in clips if clip.key == "none"]
    short = [replace(clip, cut="unmeasured") for clip in clips if clip.key == "short"]
    (shard,) = Plan("folder", unmeasured + short, 10)
    ingest_shard((job, shard))
    found = {key: row for key, (row, _) in stored(job.out).items()}
    assert found["short"].status == "ok"
    assert "longer than 30 s, and not cut, because it could not be measured" in str(
        found["none"].message
    )


def test_a_failure_that_may_pass_stops_once_and_is_taken_the_second_time(
    field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls, failing = measuring.duration_of, Counter[str](), {"bare.mp3", "long.wav"}

    def stopped(path: str, *rest: Any) -> Length:
        calls[Path(path).name] += 1
        if Path(path).name in failing:
            raise DecoderStopped("ffmpeg was ended by SIGKILL; perhaps memory ran out")
        return real(path, *rest)

    monkeypatch.setattr(measuring, "duration_of", stopped)
    said = r"2 recordings could not be measured, the first is bare\.mp3: ffmpeg was ended by"
    with pytest.raises(UserError, match=said):
        prepared(field)
    failing.remove("long.wav")
    _, clips = prepared(field)
    cuts = {clip.origin: clip.cut for clip in clips}
    assert (cuts["bare.mp3"], cuts["long.wav"]) == ("unmeasured", "needed")
    assert calls == {"bare.mp3": 2, "long.wav": 2} | dict.fromkeys(
        ("damaged.flac", "none.wav", "short.m4a"), 1
    )


def test_a_network_has_to_work_before_a_set_is_planned(
    field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(path: str, *rest: Any) -> Length:
        raise NetworkTrouble("HTTP 503 Service Unavailable")

    monkeypatch.setattr(measuring, "duration_of", unreachable)
    for _ in range(3):
        with pytest.raises(UserError, match="5 recordings could not be measured, the first is"):
            prepared(field)
    monkeypatch.undo()
    assert len(prepared(field)[1]) == 29


def test_a_set_that_has_begun_keeps_the_lengths_it_was_planned_by(
    field: Path, tone: Tone, caplog: pytest.LogCaptureFixture
) -> None:
    job, planned = prepared(field)
    for shard in Plan("folder", planned, 10):
        ingest_shard((job, shard))
    soundfile.write(field / "long.wav", tone(200), 16000)
    soundfile.write(field / "none.wav", tone(40), 16000)
    job, clips = prepared(field)
    assert clips == planned
    assert "2 recordings have changed since this set was planned" in caplog.text
    again = Again(classes=frozenset({"bad_audio"}))
    assert plan_supplements("folder", clips, list(job.sets()), again)


def test_what_is_measured_is_kept_now_and_then(
    field: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = measured._Table.write, list[int]()

    def counted(table: measured._Table, known: dict[Any, Any]) -> None:
        written.append(len(known))
        real(table, known)

    monkeypatch.setattr(measured._Table, "write", counted)
    monkeypatch.setattr(measured, "KEEP_EVERY_S", 0)
    prepared(field)
    assert (written[0], written[-1]) == (1, 5)


def test_a_killed_ffmpeg_is_tried_again_before_a_length_is_unknown(
    field: Path, before_ffmpeg: Callable[[str], Path]
) -> None:
    log = before_ffmpeg('[ "$(wc -l < "$LOG")" = 1 ] && kill -9 $$')
    assert duration_of(str(field / "bare.mp3"), LIMITS, 1000).seconds == pytest.approx(95, abs=0.1)
    assert log.read_text() == "\n\n"


def test_events_in_the_gaps_of_pieces_are_counted(
    field: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "path,labels,start_s,end_s\nlong.wav,owl,12,13\nlong.wav,owl,25,26\n"
    (field.parent / "gaps.csv").write_text(rows)
    prepared(field, labels=field.parent / "gaps.csv", hop_s=20)
    assert "1 events lie between pieces, because of --hop-s" in caplog.text


def test_pieces_longer_than_the_longest_clip_are_refused_at_once(field: Path) -> None:
    with pytest.raises(UserError, match=r"--piece-s 40 is longer than --max-s 35"):
        prepared(field, piece_s=40, max_s=35)


def test_no_pieces_leaves_recordings_whole_and_measures_nothing(field: Path) -> None:
    job, clips = prepared(field, pieces=False)
    assert len(clips) == 5
    assert not (job.out / "durations.parquet").exists()


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_members_of_archives_are_cut_too(
    tmp_path: Path, field: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (field / "long.wav").read_bytes()
    if kind == "webdataset":
        members = [("a.wav", content), ("a.json", json.dumps({"labels": ["x"]}).encode())]
        source = write_tar(tmp_path / "a.tar", members)
    else:
        source = tmp_path / "a.parquet"
        rows = [{"audio": {"bytes": content, "path": "a.wav"}}]
        pq.write_table(pa.Table.from_pylist(rows), source)
    command: Any = command_of(Ingest, kind)
    job, clips = command(urls=(str(source),), out=str(tmp_path / "out"), piece_s=20).prepare()
    assert "1 recordings longer than 30 s became 4 pieces" in capsys.readouterr().out
    (shard,) = Plan(kind, clips, 100)
    ingest_shard((job, shard))
    joined = np.concatenate([wave for _, wave in stored(job.out).values() if wave is not None])
    np.testing.assert_array_equal(joined, decode(str(field / "long.wav"), LIMITS))
