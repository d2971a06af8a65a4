import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from audio_barlow_twins.eval.hear import get_scene_embeddings
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.stored.front_end import FrontEnd

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "ingest" / "sources" / "demo" / "audio"


def run_eval(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "audio_barlow_twins", "eval", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def refused(*arguments: str | Path) -> str:
    """Run a command that must fail, and return its one line of error."""
    done = run_eval(*arguments)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    return line


def test_hear_prints_the_three_systems_and_writes_their_scores(
    checkpoint_path: Path, task_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hear"
    done = run_eval(
        "hear", "--checkpoint", checkpoint_path, "--tasks-dir", task_folder.parent, "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[3:7]] == [
        "checkpoint", "random init", "log-mel mean+std", "chance",
    ]  # fmt: skip
    report = json.loads((out / "scores.json").read_text())
    task = report["tasks"]["toy-v1-full"]
    assert (task["score"], task["n_clips"], task["n_folds"]) == ("top1_acc", 24, 3)
    assert task["chance"] == 0.5
    # Kicks are low and snares are high: even the mean spectrum tells them apart.
    assert task["systems"]["log-mel mean+std"]["mean"] > 0.8
    for system in task["systems"].values():
        assert len(system["folds"]) == 3
        assert system["mean"] == pytest.approx(np.mean(system["folds"]))
    assert report["checkpoint"]["shards_fingerprint"] == "f" * 32


def test_embed_writes_a_row_for_each_file_at_any_rate(
    checkpoint_path: Path, hear_model: Embedder, tmp_path: Path
) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    stereo = tmp_path / "in" / "deep" / "tone.WAV"
    stereo.parent.mkdir(parents=True)
    soundfile.write(stereo, np.stack([tone, tone], axis=1), 16000, subtype="FLOAT")
    (stereo.parent / "notes.txt").write_text("not audio")
    opus = DEMO / "bell" / "elec_chime.opus"
    out = tmp_path / "out" / "embeddings.parquet"
    done = run_eval("embed", tmp_path / "in", opus, "--checkpoint", checkpoint_path, "--out", out)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(out)
    assert table["file"].to_pylist() == [str(stereo), str(opus)]
    assert table["duration_s"].to_pylist() == pytest.approx([1.0, 2.2775625], abs=1e-4)
    wave = torch.from_numpy(tone.astype(np.float32))[None]
    expected = get_scene_embeddings(wave, hear_model)[0]
    torch.testing.assert_close(torch.tensor(table["embedding"][0].as_py()), expected)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["shards_fingerprint"] == "f" * 32
    assert (float(metadata["mean"]), float(metadata["std"])) == (-4.95, 5.855)
    assert json.loads(metadata["front_end"]) == FrontEnd().parameters()


def test_an_unreadable_file_stops_embedding_with_one_line_and_writes_nothing(
    checkpoint_path: Path, tmp_path: Path
) -> None:
    noise = tmp_path / "broken.wav"
    noise.write_bytes(b"not a sound")
    out = tmp_path / "out" / "embeddings.parquet"
    good = DEMO / "bell" / "elec_chime.opus"
    line = refused("embed", good, noise, "--checkpoint", checkpoint_path, "--out", out)
    assert "broken.wav" in line
    assert not list(out.parent.glob("*"))


def test_a_missing_checkpoint_is_one_line(tmp_path: Path) -> None:
    line = refused("embed", DEMO, "--checkpoint", tmp_path / "none.pt")
    assert "none.pt: no such file" in line


def test_a_module_that_is_none_is_one_line(task_folder: Path) -> None:
    line = refused("hear", "--module", "no_such_module", "--tasks-dir", task_folder.parent)
    assert "module no_such_module cannot be imported" in line


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"not a sound")
    return path


def test_embed_with_skip_bad_says_how_many_files_it_skipped(
    checkpoint_path: Path, tmp_path: Path, broken: Path
) -> None:
    good = DEMO / "bell" / "elec_chime.opus"
    out = tmp_path / "embeddings.parquet"
    done = run_eval(
        "embed", good, broken, "--checkpoint", checkpoint_path, "--out", out, "--skip-bad"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-2:] == [
        f"1 embeddings of 192 features written to {out}",
        f"1 files could not be used: see {tmp_path / 'embeddings.failed.jsonl'}",
    ]


def test_similar_prints_the_nearest_sounds_and_embeds_them_once(
    checkpoint_path: Path, tmp_path: Path
) -> None:
    arguments = [
        "similar", DEMO / "kick" / min((DEMO / "kick").iterdir()).name, "--in", DEMO / "kick",
        "--checkpoint", checkpoint_path, "--k", "3", "--cache", tmp_path / "cache.parquet",
    ]  # fmt: skip
    first, second = run_eval(*arguments), run_eval(*arguments)
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 4
    assert second.stdout == first.stdout
    assert second.stderr.splitlines()[0].endswith("files, 0 to embed")


def test_export_writes_a_program_beside_the_checkpoint(
    checkpoint_path: Path, tmp_path: Path, sounds: torch.Tensor, hear_model: Embedder
) -> None:
    path = tmp_path / "encoder.pt"
    path.write_bytes(checkpoint_path.read_bytes())
    done = run_eval("export", path, "--format", "torch-export")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'encoder.pt2'}: torch-export")
    embed = torch.export.load(tmp_path / "encoder.pt2").module()
    torch.testing.assert_close(embed(sounds), hear_model(sounds), atol=1e-4, rtol=0)


def test_export_writes_a_folder_that_from_pretrained_loads(
    checkpoint_path: Path, tmp_path: Path, sounds: torch.Tensor, hear_model: Embedder
) -> None:
    folder = tmp_path / "folder"
    done = run_eval("export", checkpoint_path, "--format", "pretrained", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert torch.equal(Embedder.from_pretrained(folder, "cpu")(sounds), hear_model(sounds))


def test_validate_names_its_checks_and_ends_with_1_when_one_fails(
    checkpoint_path: Path, broken: Path
) -> None:
    good = run_eval("validate", "audio_barlow_twins.eval.hear", "--checkpoint", checkpoint_path)
    assert good.returncode == 0, good.stdout
    assert good.stdout.splitlines()[-1] == "audio_barlow_twins.eval.hear: 54 pass, 0 warn, 0 fail"
    bad = run_eval("validate", "audio_barlow_twins.eval.hear", "--model", broken)
    assert bad.returncode == 1
    assert "fail  load_model returns" in bad.stdout
    assert "broken.wav: not a checkpoint" in bad.stdout
