"""The page of a run over the demo's sounds, read by Chromium, Pillow and libsndfile."""

import base64
import io
import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from browser import Browser, find_browser
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from audio_barlow_twins.ingest.errors import GeoBlocked, meanings
from audio_barlow_twins.ingest.report.report import write_report
from audio_barlow_twins.ingest.report.tally import Parts, Tally
from audio_barlow_twins.ingest.report.throughput import Finished, read_log, throughput
from audio_barlow_twins.ingest.sources.demo.corpus import demo_clips
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import ClipError, UserError
from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.stored.form import logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel, stored_logmel
from audio_barlow_twins.shards.stored.shardset import sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import Row, read_rows
from audio_barlow_twins.shards.stored.writer import shard_name, writing_shard

HOSTILE = "</td><script>hacked=1</script><img src='http://127.0.0.1:9/x' onerror='hacked=1'>"
VERSION = "yt-dlp 2026.08.19, ffmpeg 7.0.2"
Clip = tuple[Row, np.ndarray | None]


def ok(key: str, samples: np.ndarray, **known: Any) -> Clip:
    """Make a clip that is there."""
    return Row(**_row(key, end_s=30 + len(samples) / 16000) | known), samples


def lost(key: str, failure: str, message: str, **known: Any) -> Clip:
    """Make a clip that failed."""
    failed = {"status": "failed", "failure": failure, "message": message}
    return Row(**_row(key) | failed | known), None


def _row(key: str, **known: Any) -> dict[str, Any]:
    described = {"source_version": VERSION, "origin": f"video {key}", "labels": [HOSTILE]}
    return {"key": key, "status": "ok", "source": "audioset", "start_s": 30.0} | described | known


def write_sets(out: Path, shards: dict[str, Sequence[Clip]], wave: bool = True) -> Path:
    """Write the same clips to a wave and a logmel set."""
    log_mel = LogMel(FrontEnd())
    forms = {"wave": wave_form()} if wave else {}
    for name, clips in shards.items():
        with ExitStack() as stack:
            for kind, form in (forms | {"logmel": logmel_form(FrontEnd())}).items():
                writer = stack.enter_context(writing_shard(out / kind, name, form, "plan"))
                for row, samples in clips:
                    if samples is None:
                        writer.fail(row)
                    else:
                        stored = samples if kind == "wave" else stored_logmel(log_mel, samples)
                        writer.add(row, stored)
    return out


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Make white noise, int16 at 16 kHz: nothing of it can be compressed."""
    rng = np.random.default_rng(seed)
    return rng.integers(-32768, 32768, round(16000 * seconds)).astype(np.int16)


def tally(sidecars: Sequence[Path]) -> Tally:
    """Add up the sidecars of a set."""
    parts = Parts()
    for _ in parts.read(sidecars):
        pass
    return parts.tally()


def text_of(page: Path) -> str:
    """Read the words of a page, one space apart."""
    markup = re.sub("<style>.*?</style>", "", page.read_text("utf-8"), flags=re.DOTALL)
    return " ".join(re.sub("<[^>]*>", " ", markup).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, demo_waves: dict[str, np.ndarray]) -> Path:
    """Make what a run over three shards and a retry leaves behind, its last line of log torn."""
    names = [name for name, samples in demo_waves.items() if len(samples) > 1000][::5][:36]
    shards: dict[str, list[Clip]] = {
        shard_name(i): [
            ok(name, demo_waves[name], identity=f"ip 10.0.0.{j % 2}")
            for j, name in enumerate(names[12 * i : 12 * i + 12])
        ]
        for i in range(3)
    }
    shards[shard_name(0)] += [
        lost("gone", "unavailable", HOSTILE),
        lost("far", "geo", "not in your country", identity="ip 10.0.0.1"),
        lost("slow", "network", "HTTP Error 503"),
    ]
    shards[shard_name(1)] += [lost(f"lost{i}", "unavailable", f"reason {i}") for i in range(7)]
    shards[shard_name(0, 1)] = [
        lost("far", "geo", "not in your country", attempts=2, identity="ip 10.0.0.1"),
        ok("slow", noise(0.5), attempts=2),
    ]
    out = write_sets(tmp_path_factory.mktemp("run"), shards)
    lines = [
        {
            "at": f"2026-11-22T21:{10 * i:02}:00+00:00", "shard": shard_name(i), "clips": 15,
            "outcomes": {"ok": 12}, "audio_s": 9.0, "seconds": 120.0, "clips_per_s": 0.1,
            "node": f"10.0.0.{i}", "identities": {},
        }
        for i in range(3)
    ]  # fmt: skip
    torn = '{"at": "2026-11-22T21:4'
    (out / "ingest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n" + torn)
    return out


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    """Write its page."""
    return write_report(run)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Find a browser."""
    return find_browser(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def seen(page: Path, browser: Browser) -> dict[str, Any]:
    """Ask Chromium what it makes of the page on a phone."""
    program = """
      const all = name => [...document.querySelectorAll(name)];
      return {
        hacked: typeof hacked, width: document.documentElement.scrollWidth, inner: innerWidth,
        loaded: performance.getEntriesByType("resource").map(each => each.name),
        sounds: all("audio").map(each => each.error ? null : each.duration),
        pictures: all("img").map(each => [each.naturalWidth, each.naturalHeight]),
        keys: all("figcaption b").map(each => each.textContent),
        labels: all("figcaption span:first-of-type").map(each => each.textContent),
        cut: all("section *").filter(each => !each.closest(".wide, svg, audio")
          && each.getBoundingClientRect().right > innerWidth + 0.5).map(each => each.outerHTML),
      };
    """
    return browser.measure(page, program, width=360)


@pytest.fixture(scope="module")
def shown(run: Path, seen: dict[str, Any]) -> list[dict[str, Row]]:
    """Return the rows of the clips that are shown, by set."""
    rows = {
        kind: {row.key: row for path in sidecar_paths(run / kind) for row in read_rows(path)
               if row.status == "ok"}
        for kind in ("wave", "logmel")
    }  # fmt: skip
    return [{kind: rows[kind][key] for kind in rows} for key in seen["keys"]]


class TestInABrowser:
    """What a reader sees."""

    def test_nothing_is_wrong_in_the_console(self, page: Path, browser: Browser) -> None:
        dom, console = browser.dom(page)
        assert "Ingest report" in dom
        assert console == []

    def test_nothing_comes_from_the_network(self, seen: dict[str, Any]) -> None:
        assert seen["loaded"] == []

    def test_a_phone_needs_no_scrolling_to_the_side(self, seen: dict[str, Any]) -> None:
        assert (seen["inner"], seen["width"], seen["cut"]) == (360, 360, [])

    def test_hostile_labels_and_messages_are_text(self, seen: dict[str, Any]) -> None:
        assert seen["hacked"] == "undefined"
        assert seen["labels"] == [HOSTILE] * 8

    def test_eight_different_clips_play_at_their_length(
        self, seen: dict[str, Any], shown: list[dict[str, Row]]
    ) -> None:
        assert len(set(seen["keys"])) == 8
        lengths = [(each["wave"].n_frames or 0) / 16000 for each in shown]
        assert seen["sounds"] == pytest.approx(lengths, abs=1e-3)

    def test_their_pictures_have_a_column_for_each_frame(
        self, seen: dict[str, Any], shown: list[dict[str, Row]]
    ) -> None:
        assert seen["pictures"] == [[each["logmel"].n_frames, 64] for each in shown]


def test_the_page_of_a_real_ingest_plays_what_was_ingested(
    tmp_path: Path, browser: Browser, demo_waves: dict[str, np.ndarray]
) -> None:
    job = Job(out=tmp_path, front_end=FrontEnd(), limits=DecodeLimits(max_s=20))
    clips = demo_clips()[::9]
    clips.append(replace(clips[0], key="absent", path=str(tmp_path / "absent.opus")))
    threads = torch.get_num_threads()
    made = [ingest_shard((job, shard)) for shard in Plan("demo", clips, 16)]
    torch.set_num_threads(threads)
    lines = [asdict(report) | {"at": "2026-11-22T21:30:00+00:00"} for report in made]
    (tmp_path / "ingest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(tmp_path)
    assert f"clips planned {len(clips)} ok {len(clips) - 1} failed 1" in text_of(page)
    assert f"{len(clips)} clips tried in" in text_of(page)
    program = """return [...document.querySelectorAll("figure")].map(each =>
      [each.querySelector("b").textContent, each.querySelector("audio").duration])"""
    played = dict(browser.measure(page, program))
    assert len(played) == 8
    lengths = {clip.key: len(demo_waves[Path(clip.path).stem]) / 16000 for clip in clips[:-1]}
    assert played == pytest.approx({key: min(lengths[key], 10) for key in played}, abs=2e-3)


class TestClips:
    """The clips on the page are those of the sets."""

    def test_sounds_hold_exactly_the_samples(
        self, page: Path, demo_waves: dict[str, np.ndarray]
    ) -> None:
        markup = page.read_text("utf-8")
        cards = re.findall('<figcaption><b>(.*?)</b>.*?data:audio/wav;base64,([^"]+)', markup, re.S)
        assert len(cards) == 8
        for key, data in cards:
            samples, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16")
            assert sample_rate == 16000
            np.testing.assert_array_equal(samples, noise(0.5) if key == "slow" else demo_waves[key])

    def test_brighter_pixels_are_larger_values(
        self, page: Path, demo_waves: dict[str, np.ndarray]
    ) -> None:
        pattern = '<figcaption><b>(.*?)</b>.*?data:image/png;base64,([^"]+)'
        for key, data in re.findall(pattern, page.read_text("utf-8"), re.S):
            samples = noise(0.5) if key == "slow" else demo_waves[key]
            log_mel = stored_logmel(LogMel(FrontEnd()), samples)
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
            values, levels = log_mel.T[::-1].ravel(), pixels.ravel()
            assert pixels.shape == (64, len(log_mel))
            assert np.diff(levels[np.argsort(values)]).min() >= 0
            assert levels.max() == 63

    def test_the_same_set_gives_the_same_page(self, run: Path, page: Path) -> None:
        before = page.read_bytes()
        assert write_report(run).read_bytes() == before

    def test_another_set_shows_other_clips(self, tmp_path: Path) -> None:
        keys = []
        for seed in range(2):
            clips = [ok(f"clip{i}", noise(0.1, seed)) for i in range(16)]
            out = write_sets(tmp_path / str(seed), {shard_name(0): clips})
            markup = write_report(out).read_text("utf-8")
            keys.append(re.findall("<figcaption><b>(.*?)</b>", markup))
        assert keys[0] != keys[1]

    def test_the_page_stays_below_4_mb_whatever_the_clips_hold(self, tmp_path: Path) -> None:
        clips = [ok(f"clip{i}" * 19, noise(11, i), labels=["l" * 9999]) for i in range(8)]
        write_sets(tmp_path, {shard_name(0): clips})
        assert write_report(tmp_path).stat().st_size < 4_000_000


class TestNumbers:
    """The figures on the page."""

    def test_a_clip_that_was_tried_again_counts_once_by_its_best_outcome(self, run: Path) -> None:
        found = tally(sidecar_paths(run / "wave"))
        assert found.count("outcome") == {("ok",): 37, ("unavailable",): 8, ("geo",): 1}
        assert (found.planned, len(found.present), len(found.summaries)) == (46, 37, 4)

    def test_the_headline_says_what_is_there(self, page: Path) -> None:
        text = text_of(page)
        assert "clips planned 46 ok 37 failed 9 (19.6%)" in text
        assert "ok 37 (80.4%) unavailable 8 (17.4%) geo 1 (2.2%)" in text

    def test_a_class_shows_what_it_means_and_five_of_its_messages(self, page: Path) -> None:
        text = text_of(page)
        assert f"geo: 1 {GeoBlocked.__doc__} clips message for example 1 not in your" in text
        assert "the 5 most frequent messages" in text
        assert len(re.findall(r"\breason \d lost\d", text)) == 4
        assert "HTTP Error 503" not in text

    def test_a_class_means_what_it_says_itself_and_not_what_a_kind_of_it_says(self) -> None:
        for kind in ClipError.__subclasses__():
            assert meanings()[kind.slug] == (kind.__doc__ or "").split("\n")[0]

    def test_identities_are_listed_if_there_are_several(self, page: Path, tmp_path: Path) -> None:
        assert re.search(r"ip 10\.0\.0\.1 19 18 1 5\.3 geo 1", text_of(page))
        out = write_sets(tmp_path, {shard_name(0): [ok("a", noise(0.2))]})
        assert "identity" not in text_of(write_report(out))

    def test_loudness_is_the_rms_of_the_samples(self, tmp_path: Path) -> None:
        loud = (noise(0.5) // 8 + 3000).astype(np.int16)  # with an offset, which counts as power
        out = write_sets(tmp_path, {shard_name(0): [ok("a", loud)]})
        exact = 10 * np.log10(np.mean((loud / 32768.0) ** 2))
        assert tally(sidecar_paths(out / "wave")).levels == pytest.approx([exact])

    def test_lengths_and_their_quartiles_are_those_of_the_clips(
        self, run: Path, page: Path
    ) -> None:
        rows = [row for path in sidecar_paths(run / "wave") for row in read_rows(path)]
        lengths = sorted(row.n_frames / 16000 for row in rows if row.n_frames is not None)
        found = tally(sidecar_paths(run / "wave")).durations
        np.testing.assert_allclose(np.sort(found), lengths)
        low, middle, high = (f"{lengths[i]:.3g}" for i in (9, 18, 27))  # of 37
        text = f"Median {middle} s; half of the clips are from {low} to {high} s."
        assert text in text_of(page)

    def test_digital_silence_has_a_level(self, tmp_path: Path) -> None:
        out = write_sets(tmp_path, {shard_name(0): [ok("a", np.zeros(1600, np.int16))]})
        assert "Median -120 dBFS" in text_of(write_report(out))

    def test_without_waves_loudness_is_the_mean_log_mel(self, tmp_path: Path) -> None:
        out = write_sets(tmp_path, {shard_name(0): [ok("a", noise(0.2))]}, wave=False)
        text = text_of(write_report(out))
        assert "mean log-mel, natural log of power" in text
        assert "There is no ingest.jsonl" in text

    def test_a_run_in_which_all_failed_has_a_page(self, tmp_path: Path) -> None:
        write_sets(tmp_path, {shard_name(0): [lost("a", "geo", "no")]})
        assert "failed 1 (100.0%)" in text_of(write_report(tmp_path))

    def test_a_clip_that_only_one_set_has_is_shown_with_what_there_is(self, tmp_path: Path) -> None:
        write_sets(tmp_path, {shard_name(0): [ok("a", noise(0.2))]})
        write_sets(tmp_path, {shard_name(1): [ok("b", noise(0.3))]}, wave=False)
        assert write_report(tmp_path).read_text("utf-8").count("<audio") == 1

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="neither wave nor logmel shards; run the ingest"):
            write_report(tmp_path)

    def test_a_tar_that_went_away_is_named(self, tmp_path: Path) -> None:
        write_sets(tmp_path, {shard_name(0): [ok("a", noise(0.2))]})
        (tmp_path / "wave" / "shard-000000.tar").unlink()
        with pytest.raises(UserError, match=r"shard-000000\.tar is missing; run `abt shards"):
            write_report(tmp_path)


class TestSpeed:
    """Clips per second, from the log."""

    def test_shards_that_were_made_side_by_side_add_up(self) -> None:
        one = Finished(end_s=1000.0, seconds=100.0, clips=500, node="a")
        speed = throughput([one, replace(one, node="b")])
        np.testing.assert_allclose(speed.clips_per_s, 10.0)
        assert (speed.work_s, speed.pauses) == (100.0, 0)

    def test_the_night_between_two_runs_is_left_out(self) -> None:
        one = Finished(end_s=1000.0, seconds=100.0, clips=500, node="a")
        speed = throughput([one, replace(one, end_s=90_000.0)])
        np.testing.assert_allclose(speed.clips_per_s, 5.0)
        assert (speed.work_s, speed.pauses) == (200.0, 1)

    @given(
        st.lists(
            st.tuples(st.floats(0, 1e5), st.floats(0.01, 1e4), st.integers(0, 10**6)),
            min_size=1,
            max_size=30,
        )
    )
    def test_every_clip_is_in_exactly_one_bin(self, shards: list[tuple]) -> None:
        log = [Finished(1.8e9 + end, took, clips, "a") for end, took, clips in shards]
        speed = throughput(log)
        width = speed.work_s / len(speed.at_s)
        total = sum(clips for _, _, clips in shards)
        assert (speed.clips_per_s * width).sum() == pytest.approx(total, rel=1e-3)

    def test_torn_lines_are_passed_over(self, tmp_path: Path) -> None:
        entry = {"at": "2026-11-22T21:30:00+00:00", "seconds": 2, "clips": 3, "audio_s": 4}
        good = json.dumps(entry | {"node": "n"})
        path = tmp_path / "ingest.jsonl"
        path.write_bytes(
            f"{good}\n{good[:40]}{good}\n[1]\n\n\xff\n{good}\n{good[:-1]}".encode("latin1")
        )
        assert list(read_log(path)) == 2 * [Finished(1795383000.0, 2.0, 3, "n")]
