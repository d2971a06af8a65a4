"""Checkpoints: round trips, safety of the file on disk, and files that are refused."""

import enum
import os
import resource
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from waiting import wait_until

from audio_barlow_twins.model.audiontt import AudioNTT
from audio_barlow_twins.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    restore_encoder,
    save_checkpoint,
)
from audio_barlow_twins.model.encoders import build_encoder

SIZES: dict[str, int | float] = {"n_mels": 16, "width": 12, "channels": 4, "dropout": 0.1}


def make_checkpoint(step: int = 7, training: dict[str, Any] | None = None) -> Checkpoint:
    """Describe a small encoder with random weights."""
    torch.manual_seed(step)
    return Checkpoint(
        encoder="audiontt",
        sizes=SIZES,
        state=build_encoder("audiontt", SIZES).state_dict(),
        front_end={"sample_rate": 16000, "f_min_hz": 60.0, "window_shape": "hann"},
        mean=-0.8294,
        std=4.6230,
        fingerprint="0123abcd",
        step=step,
        training=training,
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = make_checkpoint()
    save_checkpoint(tmp_path / "run" / "last.pt", saved)
    loaded = load_checkpoint(tmp_path / "run" / "last.pt")
    for field in fields(Checkpoint):
        if field.name != "state":
            assert getattr(loaded, field.name) == getattr(saved, field.name)
    torch.testing.assert_close(loaded.state, dict(saved.state), rtol=0, atol=0)


def test_the_state_of_an_optimizer_comes_back_as_it_was(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    training: dict[str, Any] = {
        "optimizer": optimizer.state_dict(),
        "order": (1, [2.5, None, True, b"x"]),
    }
    save_checkpoint(tmp_path / "a.pt", make_checkpoint(training=training))
    loaded = load_checkpoint(tmp_path / "a.pt").training
    assert loaded is not None
    assert loaded["order"] == (1, [2.5, None, True, b"x"])
    torch.testing.assert_close(loaded["optimizer"]["state"], training["optimizer"]["state"])
    optimizer.load_state_dict(loaded["optimizer"])


def test_the_restored_encoder_embeds_like_the_saved_one(tmp_path: Path) -> None:
    encoder = AudioNTT(n_mels=16, width=12, channels=4)
    encoder(torch.randn(8, 12, 16))  # moves the running statistics
    save_checkpoint(tmp_path / "a.pt", replace(make_checkpoint(), state=encoder.state_dict()))
    restored = restore_encoder(load_checkpoint(tmp_path / "a.pt"))
    x = torch.randn(2, 12, 16)
    assert not restored.training
    assert torch.equal(restored(x), encoder.eval()(x))


def test_numpy_numbers_and_enums_are_stored_as_plain_values(tmp_path: Path) -> None:
    kind = enum.StrEnum("kind", ["WAVE"])
    training = {"loss": np.float64(0.5), "kind": kind.WAVE, "key": np.str_("a")}
    save_checkpoint(tmp_path / "a.pt", make_checkpoint(training=training))
    loaded = load_checkpoint(tmp_path / "a.pt").training
    assert loaded == {"loss": 0.5, "kind": "wave", "key": "a"}
    assert {type(value) for value in loaded.values()} == {float, str}


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, np.zeros(2), print])
def test_values_that_could_not_be_read_back_are_refused_when_saving(
    tmp_path: Path, value: object
) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, make_checkpoint(step=1))
    with pytest.raises(CheckpointError, match=r"training\['a'\]\[1\] is a "):
        save_checkpoint(path, make_checkpoint(step=2, training={"a": [0, value]}))
    assert load_checkpoint(path).step == 1
    assert os.listdir(tmp_path) == ["a.pt"]


def test_a_save_that_fails_half_way_leaves_the_older_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, make_checkpoint(step=1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = make_checkpoint(step=2, training={"weights": torch.zeros(1_000_000)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises((OSError, RuntimeError)):
            save_checkpoint(path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path).step == 1
    assert os.listdir(tmp_path) == ["a.pt"]


def test_a_killed_process_leaves_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, make_checkpoint(step=0, training={"weights": torch.zeros(300_000)}))
    program = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from audio_barlow_twins.model.checkpoint import load_checkpoint, save_checkpoint\n"
        "path = Path(sys.argv[1]); checkpoint = load_checkpoint(path)\n"
        "while True:\n"
        "    checkpoint = replace(checkpoint, step=checkpoint.step + 1)\n"
        "    save_checkpoint(path, checkpoint)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    writer = subprocess.Popen([sys.executable, "-c", program, path], env=environment)
    try:
        wait_until(lambda: load_checkpoint(path).step >= 5, writer)
    finally:
        writer.kill()
        writer.wait()
    assert load_checkpoint(path).step >= 5


class TestRefusals:
    """Files that are not ours give one line that names the file."""

    def refuse(self, path: Path, match: str) -> None:
        """Check that loading `path` fails with one line."""
        with pytest.raises(CheckpointError, match=match) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_a_missing_file(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "none.pt", "no such file")
        self.refuse(tmp_path, "no such file")

    @pytest.mark.parametrize("content", [b"", b"hello\n", b"\x80\x04K\x01."])
    def test_a_file_of_something_else(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.pt").write_bytes(content)
        self.refuse(tmp_path / "a.pt", "not a checkpoint")

    def test_a_zip_of_something_else(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", a=np.zeros(3))
        self.refuse(tmp_path / "a.npz", "not a checkpoint")

    @pytest.mark.parametrize("value", [{"model": torch.zeros(1)}, torch.zeros(2), [1]])
    def test_another_programs_checkpoint(self, tmp_path: Path, value: object) -> None:
        torch.save(value, tmp_path / "a.pt")
        self.refuse(tmp_path / "a.pt", "not a checkpoint of this project")

    def test_a_pickled_object_is_not_run(self, tmp_path: Path) -> None:
        torch.save({"format": "audio-barlow-twins checkpoint", "x": Path()}, tmp_path / "a.pt")
        self.refuse(tmp_path / "a.pt", "not a checkpoint, or damaged")

    @pytest.mark.parametrize("share", [0.1, 0.9, 0.999])
    def test_a_file_that_was_cut_short(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "a.pt"
        save_checkpoint(path, make_checkpoint())
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        self.refuse(path, "cut short")

    def test_another_format_version(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        save_checkpoint(path, make_checkpoint())
        torch.save(torch.load(path, weights_only=True) | {"version": 99}, path)
        self.refuse(path, "format 99, but this code reads 1")

    def test_a_checkpoint_with_a_field_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        save_checkpoint(path, make_checkpoint())
        payload = torch.load(path, weights_only=True)
        del payload["mean"]
        torch.save(payload, path)
        self.refuse(path, "lacks mean")


def test_an_unknown_encoder_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match=r"'resnet99'.*audiontt"):
        build_encoder("resnet99", {})


def test_weights_of_other_sizes_are_refused() -> None:
    wrong = replace(make_checkpoint(), sizes=SIZES | {"width": 13})
    with pytest.raises(CheckpointError, match="do not fit audiontt") as caught:
        restore_encoder(wrong)
    assert len(str(caught.value).splitlines()) == 1
