from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audio_barlow_twins.eval.hear import get_scene_embeddings, get_timestamp_embeddings, load_model
from audio_barlow_twins.eval.systems.baselines.log_mel import log_mel_statistics
from audio_barlow_twins.model import embedder
from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.model.pretrained import save_pretrained
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_scene_embedding_of_a_clip_ignores_its_neighbours(
    hear_model: Embedder, sounds: Tensor
) -> None:
    quiet = 0.01 * sounds[:1]
    crowd = torch.cat([quiet, 30 * sounds])
    close(get_scene_embeddings(crowd, hear_model)[:1], get_scene_embeddings(quiet, hear_model))


def test_timestamp_embeddings_of_a_clip_ignore_its_neighbours(
    hear_model: Embedder, sounds: Tensor
) -> None:
    quiet = 0.01 * sounds[:1]
    crowd, _ = get_timestamp_embeddings(torch.cat([30 * sounds, quiet]), hear_model)
    alone, _ = get_timestamp_embeddings(quiet, hear_model)
    close(crowd[-1:], alone)


def test_different_sounds_have_different_embeddings(hear_model: Embedder, sounds: Tensor) -> None:
    a, b, *_ = get_scene_embeddings(sounds, hear_model)
    assert (a - b).abs().max() > 0.01


def test_model_describes_itself_and_gives_float32_without_gradient(
    hear_model: Embedder, sounds: Tensor
) -> None:
    embeddings = get_scene_embeddings(sounds, hear_model)
    assert hear_model.sample_rate == 16000
    assert hear_model.scene_embedding_size == hear_model.timestamp_embedding_size == 192
    assert embeddings.shape == (4, 192)
    assert embeddings.dtype == torch.float32
    assert not embeddings.requires_grad


def test_asking_for_training_mode_changes_nothing(
    checkpoint_path: Path, hear_model: Embedder, sounds: Tensor
) -> None:
    asked = load_model(checkpoint_path, device="cpu").train()
    for _ in range(2):
        close(get_scene_embeddings(sounds, asked), get_scene_embeddings(sounds, hear_model))


def test_embedding_leaves_the_global_state_of_torch_alone(
    hear_model: Embedder, sounds: Tensor
) -> None:
    random_state = torch.get_rng_state()
    get_scene_embeddings(sounds, hear_model)
    get_timestamp_embeddings(sounds[:1], hear_model)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


def test_embedding_does_not_depend_on_how_many_clips_go_in_one_pass(
    hear_model: Embedder, sounds: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = get_scene_embeddings(sounds, hear_model)
    stamps, _ = get_timestamp_embeddings(sounds, hear_model)
    monkeypatch.setattr(embedder, "FRAMES_PER_PASS", 3 * 96)
    assert hear_model.clips_per_pass(15200) == 3
    close(get_scene_embeddings(sounds, hear_model), scenes)
    close(get_timestamp_embeddings(sounds, hear_model)[0], stamps)


@settings(deadline=None, max_examples=25)
@given(n_samples=st.integers(1, 40_000))
def test_timestamps_run_every_50_ms_from_0_to_the_duration(
    checkpoint: Checkpoint, n_samples: int
) -> None:
    audio = torch.zeros(2, n_samples)
    embeddings, timestamps = get_timestamp_embeddings(audio, log_mel_statistics(checkpoint, "cpu"))
    duration_ms = n_samples / 16
    assert embeddings.shape == (2, int(duration_ms // 50) + 1, 128)
    assert timestamps.tolist() == [[50.0 * i for i in range(int(duration_ms // 50) + 1)]] * 2


def test_ten_seconds_have_201_timestamps(checkpoint: Checkpoint) -> None:
    model = log_mel_statistics(checkpoint, "cpu")
    _, timestamps = get_timestamp_embeddings(torch.zeros(1, 160_000), model)
    assert timestamps.shape == (1, 201)
    assert timestamps[0, -1] == 10_000


def test_a_click_moves_only_the_windows_that_contain_it(checkpoint: Checkpoint) -> None:
    model = log_mel_statistics(checkpoint, "cpu")
    silence = torch.zeros(1, 48_000)
    click = silence.clone()
    click[0, 1210 * 16] = 1.0
    heard, timestamps = get_timestamp_embeddings(click, model)
    still, _ = get_timestamp_embeddings(silence, model)
    moved = (heard - still).abs().amax(dim=2) > 1e-4
    # 950 ms around t hold 1210 ms for t from 735 to 1685 ms.
    assert timestamps[moved].tolist() == [50.0 * i for i in range(15, 34)]


def test_a_timestamp_embedding_is_the_scene_embedding_of_its_window(
    hear_model: Embedder, sounds: Tensor
) -> None:
    stamps, _ = get_timestamp_embeddings(sounds[:1], hear_model)
    around_500_ms = sounds[:1, 400:15600]
    close(stamps[:, 10], get_scene_embeddings(around_500_ms, hear_model))
    first = torch.cat([torch.zeros(1, 7600), sounds[:1, :7600]], dim=1)
    close(stamps[:, 0], get_scene_embeddings(first, hear_model))


@pytest.mark.parametrize("n_samples", [1, 160, 512])
def test_a_clip_too_short_for_the_front_end_is_padded_with_zeros(
    hear_model: Embedder, sounds: Tensor, n_samples: int
) -> None:
    short = sounds[:, 2000 : 2000 + n_samples]
    padded = torch.cat([short, torch.zeros(len(short), 513 - n_samples)], dim=1)
    close(get_scene_embeddings(short, hear_model), get_scene_embeddings(padded, hear_model))


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt"):
        load_model(str(tmp_path / "nowhere.pt"))


def test_no_checkpoint_is_refused() -> None:
    with pytest.raises(UserError, match="no checkpoint was named"):
        load_model()


def test_an_unknown_device_is_refused(checkpoint_path: Path) -> None:
    with pytest.raises(UserError, match="teapot"):
        load_model(checkpoint_path, device="teapot")


@pytest.mark.parametrize(
    "audio", [torch.zeros(16000), torch.zeros(1, 16000, dtype=torch.int16), torch.zeros(0, 16000)]
)
def test_what_is_not_a_batch_of_float_waveforms_is_refused(
    hear_model: Embedder, audio: Tensor
) -> None:
    for embed in (get_scene_embeddings, get_timestamp_embeddings):
        with pytest.raises(UserError, match="wanted float"):
            embed(audio, hear_model)


def test_a_folder_of_weights_is_loaded_like_a_checkpoint(
    checkpoint: Checkpoint, hear_model: Embedder, sounds: Tensor, tmp_path: Path
) -> None:
    save_pretrained(checkpoint, tmp_path)
    loaded = load_model(tmp_path, device="cpu")
    assert torch.equal(
        get_scene_embeddings(sounds, loaded), get_scene_embeddings(sounds, hear_model)
    )


def test_a_clip_too_short_for_the_encoder_is_padded_with_zeros() -> None:
    net = build_encoder("audiontt2020-512", {})
    model = Embedder(net, net.out_features, FrontEnd(), -4.95, 5.855)
    short = torch.full((1, 600), 0.1)
    padded = torch.nn.functional.pad(short, (0, 1120 - 600))
    close(get_scene_embeddings(short, model), get_scene_embeddings(padded, model))
