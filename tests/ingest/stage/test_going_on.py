"""A real run without a terminal, looked at while its last clip is being decoded."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from interrupted_run import ROOT
from waiting import HANG_S, wait_until

from audio_barlow_twins.shards.decode.ffmpeg import ffmpeg_path

PROGRAM = """
from audio_barlow_twins.command import main
from audio_barlow_twins.ingest.report import live
from audio_barlow_twins.shards.base import progress
from audio_barlow_twins.shards.cluster import counts

progress.LINE_S, counts.START_S, live.EVERY_S, live.SHARE = 0.1, 0.0, 0.5, 1.0
main()
"""
"""The command, in more of a hurry to tell of itself."""


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory,
    tone: Callable[..., np.ndarray],
    environment: dict[str, str],
) -> tuple[str, str]:
    """Ingest two shards of three clips; return the page while the last clip waits, and stderr."""
    folder = tmp_path_factory.mktemp("going-on")
    (folder / "sounds").mkdir()
    for name in "abcdef":
        soundfile.write(folder / "sounds" / f"{name}.wav", tone(1.0), 16000)
    tool, go = folder / "bin" / "ffmpeg", folder / "go"
    tool.parent.mkdir()
    wait = (
        f'case "$*" in */f.wav*) while [ ! -e {shlex.quote(str(go))} ]; do sleep 0.05; done;; esac'
    )
    tool.write_text(f'#!/bin/sh\n{wait}\nexec {shlex.quote(ffmpeg_path())} "$@"\n')
    tool.chmod(0o755)
    where = [str(folder / "sounds"), "--out", str(folder / "out"), "--shard-clips", "3"]
    page, log = folder / "out" / "ingest.html", folder / "log"

    def seen() -> bool:
        has_page = page.exists() and "going on: 3 of 6 clips" in page.read_text()
        return has_page and "\ningest 5 of 6 clips" in log.read_text()

    with log.open("wb") as file:
        run = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "ingest", "folder", *where, "--slots", "2"],
            env=environment | {"PATH": f"{tool.parent}:{environment['PATH']}"},
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file,
        )  # fmt: skip
    try:
        wait_until(seen, run, log.read_text, every_s=0.05)
        before = page.read_text()
    finally:
        go.touch()
        code = run.wait(HANG_S)
    assert code == 0, log.read_text()
    assert "going on" not in page.read_text()
    return before, log.read_text()


def test_the_page_is_there_before_the_last_shard(told: tuple[str, str]) -> None:
    page, _ = told
    assert 'http-equiv="refresh"' in page
    assert "<dt>clips planned</dt><dd>3</dd>" in page


def test_a_log_gets_plain_lines_that_count_clips_not_shards(told: tuple[str, str]) -> None:
    _, text = told
    measured, planned, *lines = [x for x in text.splitlines() if not x.startswith("measure ")]
    assert measured == "6 recordings, 6 to measure"
    assert planned == "2 shards planned, 2 to do"
    assert all(line.startswith("ingest ") for line in lines)
    done = [int(re.findall(r"^ingest (\d) of 6 clips", line)[0]) for line in lines]
    assert done == sorted(done)
    assert {0, 5, 6} <= {*done}
    assert "\r" not in text


def test_the_last_line_is_the_whole_run(told: tuple[str, str]) -> None:
    _, text = told
    line = r"ingest 6 of 6 clips \(100 %\), [\d.]+ clips/s, in [\d mins]+, ok=6"
    assert re.fullmatch(line, text.splitlines()[-1])
