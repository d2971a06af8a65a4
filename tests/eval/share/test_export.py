import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from audio_barlow_twins.eval.hear import get_scene_embeddings
from audio_barlow_twins.eval.share.export import TOLERANCE, checked, write_onnx, write_program
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd

WRITERS = {"pt2": write_program, "onnx": write_onnx}
FACTS = {"encoder": "audiontt", "shards_fingerprint": "f" * 32, "front_end": {"hop": 160}}
PACKAGES = sysconfig.get_path("purelib")

# Both programs see the packages but not the editable install, which needs `site`; -S leaves it out.
ALONE = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
for room in ("shards", "model", "eval", "train", "ingest"):
    assert importlib.util.find_spec(room) is None, room
import numpy as np
"""
USE_PROGRAM = """
import json, torch
extra = {"metadata.json": ""}
embed = torch.export.load(sys.argv[2], extra_files=extra).module()
rate = json.loads(extra["metadata.json"])["sample_rate"]
run = lambda audio: embed(torch.from_numpy(audio)).numpy()
"""
USE_ONNX = """
sys.modules["torch"] = None
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
rate = int(session.get_modelmeta().custom_metadata_map["sample_rate"])
run = lambda audio: session.run(["embeddings"], {"audio": audio})[0]
"""
SAVE = """
assert rate == 16000
batches = np.load(sys.argv[3])
np.savez(sys.argv[4], **{name: run(batches[name]) for name in batches})
"""
USE = {"pt2": USE_PROGRAM, "onnx": USE_ONNX}


@pytest.fixture(scope="session", params=sorted(WRITERS))
def exported(
    request: pytest.FixtureRequest, hear_model: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("export") / f"encoder.{request.param}"
    WRITERS[request.param](hear_model, path, FACTS)
    return path


@pytest.fixture(scope="session")
def batches(sounds: torch.Tensor) -> dict[str, torch.Tensor]:
    """Real sounds: one clip and several, a second, the shortest, an odd length, ten seconds."""
    return {
        "one": sounds[:1],
        "four": sounds,
        "shortest": sounds[:2, 3000:3513],
        "odd": sounds[:3, :12345],
        "long": sounds.reshape(1, -1).repeat(2, 3)[:, :160_000],
    }


def test_a_file_runs_without_this_project_and_equals_the_python_model(
    exported: Path, hear_model: Embedder, batches: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    given, made = tmp_path / "audio.npz", tmp_path / "embeddings.npz"
    np.savez(given, **{name: audio.numpy() for name, audio in batches.items()})
    program = ALONE + USE[exported.suffix[1:]] + SAVE
    subprocess.run(
        [sys.executable, "-IS", "-c", program, PACKAGES, exported, given, made],
        cwd=tmp_path,
        check=True,
    )
    embeddings = np.load(made)
    for name, audio in batches.items():
        wanted = get_scene_embeddings(audio, hear_model)
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(torch.from_numpy(embeddings[name]), wanted, atol=1e-4, rtol=0)


def test_an_archive_says_what_it_is_and_takes(hear_model: Embedder, tmp_path: Path) -> None:
    write_program(hear_model, tmp_path / "encoder.pt2", FACTS)
    extra = {"metadata.json": ""}
    torch.export.load(tmp_path / "encoder.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"]) == {
        **FACTS,
        "sample_rate": 16000,
        "embedding_size": 192,
        "min_samples": 513,
        "max_samples": 600 * 16000,
    }


def test_an_onnx_model_is_valid_and_says_what_it_is_and_takes(
    hear_model: Embedder, tmp_path: Path
) -> None:
    write_onnx(hear_model, tmp_path / "encoder.onnx", FACTS)
    model = onnx.load(tmp_path / "encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["embedding_size"] == "192"
    assert properties["encoder"] == "audiontt"
    assert json.loads(properties["front_end"]) == {"hop": 160}
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "audio", "embeddings",
    ]  # fmt: skip


def test_an_archive_refuses_a_clip_that_is_too_short(hear_model: Embedder, tmp_path: Path) -> None:
    write_program(hear_model, tmp_path / "encoder.pt2", {})
    embed = torch.export.load(tmp_path / "encoder.pt2").module()
    with pytest.raises(AssertionError, match="513"):
        embed(torch.zeros(1, 512))


@pytest.mark.parametrize(
    ("encoder", "sizes"),
    [
        ("audiontt2020-512", {}),
        pytest.param("vitc-t-16x8", {}, marks=pytest.mark.slow),
        pytest.param(
            "vitc-t-16x16", {"positions": "interpolated", "pool": "mean"}, marks=pytest.mark.slow
        ),
        pytest.param("resnet18-regp-nrf", {}, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_encoder_can_be_exported(
    encoder: str, sizes: dict[str, str], tmp_path: Path
) -> None:
    net = build_encoder(encoder, sizes)
    model = Embedder(net, net.out_features, FrontEnd(), -4.95, 5.855)
    # What goes into the ONNX model is what torch.export has traced.
    assert write_onnx(model, tmp_path / "encoder.onnx", {}) <= TOLERANCE


def test_what_differs_from_the_python_model_is_not_written(
    hear_model: Embedder, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"encoder\.onnx: not written: differs .* by 0\.002"):
        checked(lambda audio: hear_model(audio) + 0.002, hear_model, tmp_path / "encoder.onnx")
    with pytest.raises(UserError, match="by nan"):
        checked(lambda audio: hear_model(audio) * torch.nan, hear_model, tmp_path / "encoder.onnx")


def test_exporting_leaves_the_model_and_the_front_end_as_they_were(
    hear_model: Embedder, sounds: torch.Tensor, tmp_path: Path
) -> None:
    before = get_scene_embeddings(sounds, hear_model)
    pointers = [buffer.data_ptr() for buffer in hear_model.buffers()]
    write_program(hear_model, tmp_path / "encoder.pt2", {})
    assert [buffer.data_ptr() for buffer in hear_model.buffers()] == pointers
    assert torch.equal(get_scene_embeddings(sounds, hear_model), before)


def test_a_missing_package_is_one_line(
    hear_model: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="onnxscript, which is not installed"):
        write_onnx(hear_model, tmp_path / "encoder.onnx", {})
