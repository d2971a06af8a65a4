import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch

from audio_barlow_twins.eval.hear import get_scene_embeddings
from audio_barlow_twins.eval.systems.baselines.log_mel import log_mel_statistics
from audio_barlow_twins.model.checkpoint import Checkpoint, CheckpointError
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.model.pretrained import read_folder, save_pretrained
from audio_barlow_twins.shards.base.errors import UserError


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_pretrained(checkpoint, tmp_path / "encoder")
    return tmp_path / "encoder"


def test_a_folder_gives_back_the_same_model(
    folder: Path, hear_model: Embedder, sounds: torch.Tensor
) -> None:
    loaded = Embedder.from_pretrained(folder, device="cpu")
    assert torch.equal(
        get_scene_embeddings(sounds, loaded), get_scene_embeddings(sounds, hear_model)
    )


def test_a_model_saves_itself_as_its_checkpoint_is_saved(
    folder: Path, hear_model: Embedder, sounds: torch.Tensor, tmp_path: Path
) -> None:
    hear_model.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    loaded = Embedder.from_pretrained(tmp_path / "again", device="cpu")
    loaded.save_pretrained(str(tmp_path / "third"))
    third = Embedder.from_pretrained(str(tmp_path / "third"), device="cpu")
    assert torch.equal(
        get_scene_embeddings(sounds, third), get_scene_embeddings(sounds, hear_model)
    )


def test_a_model_without_an_encoder_of_a_checkpoint_is_not_saved(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="not written: this encoder is not from a checkpoint"):
        log_mel_statistics(checkpoint, "cpu").save_pretrained(tmp_path / "log-mel")
    assert not (tmp_path / "log-mel").exists()


def test_a_folder_gives_back_the_checkpoint_without_its_training_state(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    save_pretrained(replace(checkpoint, training={"epoch": 3}), tmp_path)
    loaded = read_folder(tmp_path)
    assert replace(loaded, state={}) == replace(checkpoint, state={}, training=None)
    assert loaded.state.keys() == checkpoint.state.keys()
    for name, value in checkpoint.state.items():
        assert torch.equal(loaded.state[name], value)
        assert loaded.state[name].dtype == value.dtype


def test_safetensors_itself_reads_the_weights(folder: Path, checkpoint: Checkpoint) -> None:
    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == checkpoint.state.keys()
        assert torch.equal(file.get_tensor("fc.0.weight"), checkpoint.state["fc.0.weight"])


def test_all_files_may_be_read_by_those_who_may_read_new_files(folder: Path) -> None:
    plain = folder / "plain"
    plain.touch()
    for path in folder.iterdir():
        assert path.stat().st_mode == plain.stat().st_mode


def test_the_config_is_plain_json_with_what_a_user_needs(
    folder: Path, checkpoint: Checkpoint
) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "audio-barlow-twins"
    assert (config["sample_rate"], config["embedding_size"]) == (16000, 192)
    assert config["front_end"] == checkpoint.front_end
    assert config["sizes"] == checkpoint.sizes


def test_the_card_states_the_facts_of_the_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    card = (folder / "README.md").read_text()
    head = card.split("---\n")[1]
    assert "pipeline_tag: feature-extraction" in head
    # Convolutions 1 -> 8 -> 8 and their norms, then two layers of 64 units on 8 x 16 features.
    count = (9 * 8 + 8 + 16) + (9 * 8 * 8 + 8 + 16) + (128 * 64 + 64) + (64 * 64 + 64)
    for fact in (
        f"{count:,}",
        "192 features",
        "audiontt, width 64, channels 8",
        "f" * 32,
        "5.8550",
    ):
        assert fact in card


def test_tensors_that_share_memory_or_lie_crosswise_are_saved_as_values(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    weight = checkpoint.state["fc.3.weight"]
    crosswise = checkpoint.state | {
        "fc.3.weight": weight.T.contiguous().T,
        "fc.0.bias": weight[0],
        "fc.3.bias": weight[0],
    }
    save_pretrained(replace(checkpoint, state=crosswise), tmp_path)
    loaded = read_folder(tmp_path).state
    assert torch.equal(loaded["fc.3.weight"], weight)
    assert torch.equal(loaded["fc.3.bias"], weight[0])


def test_a_folder_without_its_config_counts_as_incomplete(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        Embedder.from_pretrained(folder)


def test_a_folder_without_its_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file"):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_weights_are_one_line(folder: Path, damage: str) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(
        content[:-100] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1])
    )
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its SHA-256 is .*json says"):
        Embedder.from_pretrained(folder)


def test_the_config_names_the_sha256_of_the_weights(folder: Path) -> None:
    said = json.loads((folder / "config.json").read_text())["weights_sha256"]
    done = subprocess.run(
        ["sha256sum", folder / "model.safetensors"], check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[0] == said


def test_a_folder_of_an_earlier_version_names_none(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["weights_sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    Embedder.from_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read as safetensors"):
        Embedder.from_pretrained(folder)


def test_half_precision_takes_half_the_bytes_and_loads_as_float32(
    folder: Path, checkpoint: Checkpoint, sounds: torch.Tensor, tmp_path: Path
) -> None:
    save_pretrained(checkpoint, tmp_path / "half", half=True)
    sizes = [(each / "model.safetensors").stat().st_size for each in (tmp_path / "half", folder)]
    assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.1)
    state = read_folder(tmp_path / "half").state
    for name, value in checkpoint.state.items():
        assert state[name].dtype == value.dtype
        torch.testing.assert_close(state[name], value, rtol=2**-11, atol=1e-7)
    whole, half = (Embedder.from_pretrained(each, "cpu") for each in (folder, tmp_path / "half"))
    expected = get_scene_embeddings(sounds, whole)
    error = (get_scene_embeddings(sounds, half) - expected).norm() / expected.norm()
    assert 0 < error < 2e-3


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "model_type is None"),
        ('{"model_type": "bert"}', "model_type is 'bert', wanted 'audio-barlow-twins'"),
        ('{"model_type": "audio-barlow-twins", "version": 9}', "version is 9, but this code"),
        ('{"model_type": "audio-barlow-twins", "version": 1, "step": 1}', "lacks encoder, sizes"),
    ],
)
def test_a_foreign_or_damaged_config_is_refused(folder: Path, config: str, words: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=words):
        Embedder.from_pretrained(folder)


def test_a_folder_is_written_anew_over_an_old_one(folder: Path, checkpoint: Checkpoint) -> None:
    save_pretrained(replace(checkpoint, step=99), folder)
    assert read_folder(folder).step == 99
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip


def test_a_folder_whose_writing_fails_counts_as_incomplete(
    folder: Path, checkpoint: Checkpoint
) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written: Is a directory"):
        save_pretrained(checkpoint, folder)
    assert not (folder / "config.json").exists()


def test_a_repository_of_the_hub_comes_out_of_its_cache(
    folder: Path, tmp_path: Path, hear_model: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    repository = tmp_path / "hub" / "models--somebody--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded = Embedder.from_pretrained("somebody/encoder", device="cpu")
    assert loaded.scene_embedding_size == hear_model.scene_embedding_size
    with pytest.raises(CheckpointError, match="no such folder, and the hub does not"):
        Embedder.from_pretrained("somebody/other")


def test_what_is_neither_folder_nor_repository_is_one_line() -> None:
    with pytest.raises(CheckpointError, match="no such folder; give one, or the owner/name"):
        Embedder.from_pretrained("nowhere")


def test_a_repository_needs_the_hub_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="huggingface_hub, which is not installed"):
        Embedder.from_pretrained("somebody/encoder")
