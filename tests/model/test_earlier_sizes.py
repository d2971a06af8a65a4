"""Checkpoints of ViTs from before their sizes named depth and training of the projection."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from audio_barlow_twins.model.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore_encoder,
    save_checkpoint,
)
from audio_barlow_twins.model.embedder import Embedder, load_model
from audio_barlow_twins.model.encoders import Size, build_encoder
from audio_barlow_twins.model.foreign import load_any_checkpoint
from audio_barlow_twins.model.pretrained import read_folder, save_pretrained
from audio_barlow_twins.shards.stored.front_end import FrontEnd

VITS = pytest.mark.parametrize("name", ["vitc-t-16x8", "vit-t-16x8"])


def trained_then(name: str, **sizes: Size) -> tuple[Checkpoint, nn.Module]:
    """Make a checkpoint with all sizes, and the network that it is of: 12 blocks, all trained."""
    sizes = {"n_mels": 64, "depth": 12} | sizes
    if name.startswith("vit-"):
        sizes["projection"] = "trained"
    torch.manual_seed(0)
    encoder = build_encoder(name, sizes).eval()
    checkpoint = Checkpoint(
        encoder=name,
        sizes=sizes,
        state=encoder.state_dict(),
        front_end=FrontEnd().parameters(),
        mean=-4.95,
        std=5.855,
        fingerprint="f" * 32,
        step=7,
    )
    return checkpoint, encoder


def earlier_file(path: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint as earlier versions did: sizes are those that the user named."""
    save_checkpoint(path, checkpoint)
    payload = torch.load(path, weights_only=True)
    for name in ("depth", "projection"):
        payload["sizes"].pop(name, None)
    torch.save(payload, path)
    return path


def earlier_folder(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a pretrained folder as earlier versions did."""
    save_pretrained(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    for name in ("depth", "projection"):
        config["sizes"].pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@VITS
def test_an_earlier_file_gives_the_network_that_it_was_written_of(
    tmp_path: Path, name: str
) -> None:
    checkpoint, encoder = trained_then(name)
    path = earlier_file(tmp_path / "a.pt", checkpoint)
    x = torch.randn(2, 96, 64)
    for load in (load_checkpoint, load_any_checkpoint):
        loaded = load(path)
        assert loaded.sizes == checkpoint.sizes
        assert torch.equal(restore_encoder(loaded)(x), encoder(x))


@VITS
def test_an_earlier_folder_gives_the_network_that_it_was_written_of(
    tmp_path: Path, name: str
) -> None:
    checkpoint, encoder = trained_then(name)
    loaded = read_folder(earlier_folder(tmp_path / "encoder", checkpoint))
    assert loaded.sizes == checkpoint.sizes
    x = torch.randn(2, 96, 64)
    assert torch.equal(restore_encoder(loaded)(x), encoder(x))


@VITS
def test_earlier_files_and_folders_embed_sounds_alike(
    tmp_path: Path, name: str, sounds: torch.Tensor
) -> None:
    checkpoint, _ = trained_then(name)
    file = load_model(earlier_file(tmp_path / "a.pt", checkpoint), "cpu")
    folder = Embedder.from_pretrained(earlier_folder(tmp_path / "encoder", checkpoint), "cpu")
    file.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again["sizes"] == checkpoint.sizes
    assert torch.equal(file(sounds), folder(sounds))


@VITS
def test_a_depth_that_was_named_is_kept(tmp_path: Path, name: str) -> None:
    checkpoint, _ = trained_then(name, depth=2, pool="mean")
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint)
    assert load_checkpoint(path).sizes == checkpoint.sizes
    assert load_checkpoint(earlier_file(path, checkpoint)).sizes == checkpoint.sizes


def test_an_earlier_plain_vit_goes_on_training_its_projection(tmp_path: Path) -> None:
    checkpoint, _ = trained_then("vit-t-16x8", depth=1)
    loaded = load_checkpoint(earlier_file(tmp_path / "a.pt", checkpoint))
    assert all(p.requires_grad for p in build_encoder(loaded.encoder, loaded.sizes).parameters())


def test_sizes_of_other_encoders_stay_as_they_are(tmp_path: Path) -> None:
    sizes: dict[str, Size] = {"width": 8, "channels": 2}
    state = build_encoder("audiontt", sizes).state_dict()
    saved = Checkpoint(
        encoder="audiontt", sizes=sizes, state=state, front_end={}, mean=0.0, std=1.0,
        fingerprint="", step=0,
    )  # fmt: skip
    save_checkpoint(tmp_path / "a.pt", saved)
    assert load_checkpoint(tmp_path / "a.pt").sizes == sizes
