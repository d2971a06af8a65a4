"""FSD50K as it is unpacked: splits, labels, and sounds that are not there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_barlow_twins.ingest.sources.fsd50k import fsd50k_clips
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.ingest.stage.stage import Job, ingest_shard
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.decode.sound import DecodeLimits
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.sidecar import read_rows

DEV = """fname,labels,mids,split
64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train
16399,"Bark,Dog","/m/05tny_,/m/0bt9lr",val
404,Rain,/m/06mb1,train
"""
EVAL = "fname,labels,mids\n37199,Bell,/m/0395lw\n"


@pytest.fixture
def root(tmp_path: Path, tone: Callable[..., np.ndarray]) -> Path:
    """Lay out three sounds of four; 404 is listed, but not there."""
    for folder, names in (("dev_audio", ("64760", "16399")), ("eval_audio", ("37199",))):
        (tmp_path / f"FSD50K.{folder}").mkdir()
        for name in names:
            soundfile.write(tmp_path / f"FSD50K.{folder}" / f"{name}.wav", tone(0.5, 44100), 44100)
    (tmp_path / "FSD50K.ground_truth").mkdir()
    (tmp_path / "FSD50K.ground_truth" / "dev.csv").write_text(DEV)
    (tmp_path / "FSD50K.ground_truth" / "eval.csv").write_text(EVAL)
    return tmp_path


@pytest.mark.parametrize(
    ("split", "keys"),
    [
        ("dev", ["64760", "16399", "404"]),
        ("train", ["64760", "404"]),
        ("val", ["16399"]),
        ("eval", ["37199"]),
    ],
)
def test_a_split_is_the_rows_of_the_ground_truth_in_their_order(
    root: Path, split: str, keys: list[str]
) -> None:
    assert [clip.key for clip in fsd50k_clips(root, split)] == keys  # type: ignore[arg-type]


def test_labels_keep_their_order(root: Path) -> None:
    assert fsd50k_clips(root, "dev")[0].labels == ("Electric_guitar", "Guitar", "Music")


def test_a_sound_that_is_not_there_becomes_a_failed_clip_with_its_reason(
    root: Path, tmp_path: Path
) -> None:
    job = Job(out=tmp_path / "out", front_end=FrontEnd(), limits=DecodeLimits())
    (shard,) = Plan("fsd50k", fsd50k_clips(root, "dev"), 10)
    assert ingest_shard((job, shard)).outcomes == {"ok": 2, "unreadable": 1}
    rows = read_rows(tmp_path / "out" / "logmel" / "shard-000000.parquet")
    assert [(row.key, row.status) for row in rows] == [
        ("64760", "ok"),
        ("16399", "ok"),
        ("404", "failed"),
    ]
    assert rows[2].message == "cannot be opened: No such file or directory"


def test_a_folder_without_fsd50k_is_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks FSD50K\.dev_audio/ or .* unpack both archives"):
        fsd50k_clips(tmp_path / "elsewhere", "dev")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("fname,labels,mids\n1,a,b\n", "lacks the columns split"),
        (DEV + "../../etc/passwd,a,b,train\n", "line 5: a row begins with a number"),
        (DEV + "7,a,b\n", "line 5: a row begins with a number"),
    ],
)
def test_another_table_is_refused(root: Path, content: str, reason: str) -> None:
    (root / "FSD50K.ground_truth" / "dev.csv").write_text(content)
    with pytest.raises(UserError, match=reason):
        fsd50k_clips(root, "dev")
