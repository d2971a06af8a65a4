"""The end of AudioSet's story on a cluster: every planned clip accounted for, nothing twice."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cluster_story import BETTER, KINDS, Stage, Tale, all_objects, live_on_a_cluster, objects
from interrupted_run import ROOT
from local_site import PLUGIN, LocalSite
from s3_server import S3Server
from waiting import HANG_S

from audio_barlow_twins.ingest.stage.ledger import read_ledger
from audio_barlow_twins.shards.base.place import place
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.shards.stored.shardset import open_shards, sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import Row, read_clip, read_rows
from audio_barlow_twins.shards.stored.verify import verify

SETS = ("wave", "logmel")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Stage]:
    """Start the site and the cluster, whose nodes find plugin and store by their variables."""
    folder = tmp_path_factory.mktemp("cluster")
    paths = os.pathsep.join([PLUGIN, *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch, LocalSite(folder, seconds=60) as site:
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv(
            "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        )
        patch.delenv("RAY_ADDRESS", raising=False)
        found = Stage(folder, site, f"{s3.url('audioset')}/set")
        try:
            yield found
        finally:
            found.close()


@pytest.fixture(scope="module")
def tale(stage: Stage) -> Tale:
    """Live through it."""
    return live_on_a_cluster(stage)


def rows_of(tale: Tale, name: str) -> dict[str, list[Row]]:
    """Read all rows of a set by shard, supplements under their own names."""
    return {path.stem: read_rows(path) for path in sidecar_paths(f"{tale.out}/{name}")}


def test_the_story_took_place(tale: Tale) -> None:
    assert tale.killed_worker.startswith("ray::ingest_shard")
    assert tale.codes == [-9, 0, 0], tale.texts
    assert tale.nodes_left == 1


@pytest.mark.parametrize("name", SETS)
def test_every_planned_clip_has_one_row_in_its_place(tale: Tale, name: str) -> None:
    rows = [row for shard, rows in rows_of(tale, name).items() if "-r" not in shard for row in rows]
    assert [row.key for row in rows] == [listed.key for listed in tale.rows]


@pytest.mark.parametrize("name", SETS)
def test_every_clip_ended_in_its_class(tale: Tale, name: str) -> None:
    rows = [row for shard, rows in rows_of(tale, name).items() if "-r" not in shard for row in rows]
    found = {row.key: row.failure or row.status for row in rows}
    assert found == {listed.key: KINDS[listed.kind][0] for listed in tale.rows}


def test_rows_say_who_asked_with_which_tools_and_when(tale: Tale) -> None:
    for row in (row for rows in rows_of(tale, "wave").values() for row in rows):
        assert row.identity.startswith("proxy 127.0.0.1:")
        assert "secret" not in row.identity
        assert row.tried_at is not None
        assert row.attempts >= 1
        assert row.source_version.startswith("yt-dlp ")
        assert "soxr" in row.source_version


def test_every_clip_begins_where_its_list_says(tale: Tale) -> None:
    starts = {listed.key: listed.start_s for listed in tale.rows}
    wave = place(f"{tale.out}/wave")
    for shard, rows in rows_of(tale, "wave").items():
        with (wave / f"{shard}.tar").open("rb") as tar:
            for row in (row for row in rows if row.status == "ok"):
                samples = read_clip(tar, row, wave_form()) / 32768
                assert len(samples) == 160_000
                assert abs(pitch(samples[:3200]) - (200 + 40 * (starts[row.key] + 0.1))) < 4
                assert abs(pitch(samples[-3200:]) - (200 + 40 * (starts[row.key] + 9.9))) < 4


def pitch(samples: np.ndarray) -> float:
    """Estimate the frequency of a tone at 16 kHz, Hz: the peak of a padded spectrum."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 16))
    return float(spectrum.argmax()) * 16000 / (1 << 16)


def test_what_was_got_before_the_kill_was_not_fetched_again(tale: Tale) -> None:
    assert tale.spooled
    good = {listed.ytid for listed in tale.rows if listed.kind == "good"}
    fetched = [tale.counts["pages"][ytid] for ytid in good]
    # A worker, the driver and a node were killed: what was in flight then is fetched again, three
    # clips a slot and kill; a section that could not be read costs a second page.
    assert sum(fetched) <= len(good) + 3 * 6
    assert Counter(fetched).most_common(1)[0][0] == 1


def test_the_limit_of_an_identity_was_met_and_marked_no_clip(tale: Tale) -> None:
    assert sum(tale.counts["refused"].values()) > 0


@pytest.mark.parametrize("name", SETS)
def test_the_sets_are_sound(tale: Tale, name: str) -> None:
    findings = [str(each) for found in verify(place(f"{tale.out}/{name}")) for each in found]
    assert findings == []


def test_nothing_is_left_of_unfinished_shards(tale: Tale, stage: Stage) -> None:
    names = {name.removeprefix(tale.out.removeprefix("s3://")) for name in all_objects(tale.out)}
    outside = {name for name in names if not name.startswith(("/wave/shard-", "/logmel/shard-"))}
    assert outside == {"/ingest.html", "/ingest.json", "/ingest.jsonl"}


def test_retry_gets_what_may_be_had_by_now_into_supplements(tale: Tale) -> None:
    ledger = read_ledger(place(f"{tale.out}/wave"))
    better = {listed.key for listed in tale.rows if listed.kind in BETTER}
    expected = {r.key for r in tale.rows if KINDS[r.kind][0] != "ok"} - better
    assert ledger.failures.keys() == expected
    assert len(open_shards(f"{tale.out}/logmel")) == len(tale.rows) - len(expected)


def test_retry_leaves_every_object_as_it_was(tale: Tale) -> None:
    assert tale.before_retry.items() <= tale.after_retry.items()
    new = tale.after_retry.keys() - tale.before_retry.keys()
    assert new
    assert all("-r1." in name for name in new)


def test_retry_counts_on_and_does_not_ask_for_what_stays(tale: Tale, stage: Stage) -> None:
    failures = read_ledger(place(f"{tale.out}/wave")).failures
    assert failures[key_of(tale, "page_hang")].attempts == 4
    assert failures[key_of(tale, "private")].attempts == 1
    private = next(row.ytid for row in tale.rows if row.kind == "private")
    assert stage.site.counts()["pages"][private] == tale.counts["pages"][private]


def key_of(tale: Tale, kind: str) -> str:
    """Return the key of the only clip of a kind."""
    return next(row.key for row in tale.rows if row.kind == kind)


def test_a_broken_environment_stops_the_run_and_marks_nothing(stage: Stage, tale: Tale) -> None:
    told, out = Tale("", []), stage.out
    stage.out = f"{out}-broken"
    stage.site.change(broken=True)
    stage.finish(told, stage.start())
    stage.site.change(broken=False)
    found = stage.committed()
    stage.out = out
    assert told.codes == [2]
    last = told.texts[0].strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "Requested format is not available" in last
    assert "pip install" in last
    assert found == set()


def test_bot_checks_stop_each_identity_and_then_the_run(stage: Stage, tale: Tale) -> None:
    told, out = Tale("", []), stage.out
    stage.out = f"{out}-bots"
    stage.site.change(bots=["proxy left", "proxy right"])
    stage.finish(told, stage.start())
    stage.site.change(bots=[])
    found = stage.committed()
    stage.out = out
    assert told.codes == [2]
    assert "no identity is left that may ask" in told.texts[0].strip().splitlines()[-1]
    assert found == set()


@pytest.mark.slow
def test_a_job_can_be_submitted_with_its_code(stage: Stage, s3: S3Server, tmp_path: Path) -> None:
    out = f"{s3.url('job')}/demo"
    entry = [
        "python",
        "-m",
        "audio_barlow_twins",
        "ingest",
        "demo",
        "--out",
        out,
        "--shard-clips",
        "110",
    ]
    command = ["ray", "job", "submit", "--address", stage.dashboard, "--working-dir", str(ROOT)]
    variables = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    for _ in range(6):
        done = subprocess.run(
            [*command, "--", *entry],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        if "No available agent" not in done.stderr:  # Ray's own words until its agents are up
            break
        time.sleep(10)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(open_shards(f"{out}/logmel")) == 220
    lines = (place(out) / "ingest.jsonl").read_text().splitlines()
    assert len(lines) == 2


def test_a_folder_fills_what_is_gone_for_good(stage: Stage, tale: Tale, tmp_path: Path) -> None:
    times = np.arange(16000 * 60) / 16000
    recording = 0.4 * np.sin(2 * np.pi * (200 * times + 20 * times**2))
    kinds = ("private", "removed", "geo")
    gone = [next(row for row in tale.rows if row.kind == kind) for kind in kinds]
    piece = recording[gone[1].start_s * 16000 :][:160_000]
    soundfile.write(tmp_path / f"{gone[0].ytid}.wav", recording, 16000)
    soundfile.write(tmp_path / f"Y{gone[1].ytid}.wav", piece, 16000)
    name = f"{gone[2].ytid}_{gone[2].start_s}_{gone[2].start_s + 10}.flac"
    soundfile.write(tmp_path / name, recording[gone[2].start_s * 16000 :][:160_000], 16000)
    before = objects(tale.out)
    told, fill = Tale("", []), f"folder {tmp_path} --names audioset"
    stage.finish(told, stage.start("--fill-from", fill, first=("retry",)))
    assert told.codes == [0], told.texts
    assert before.items() <= objects(tale.out).items()
    found = {row.key: row for rows in rows_of(tale, "wave").values() for row in rows if row.offset}
    assert [found[row.key].source for row in gone] == [f"folder {tmp_path.name}"] * 3
    test_every_clip_begins_where_its_list_says(tale)
