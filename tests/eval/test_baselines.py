import librosa
import numpy as np
import torch
from torch import Tensor

from eval.baselines import compared_systems, log_mel_statistics, random_init
from eval.hear import get_scene_embeddings, get_timestamp_embeddings
from model.checkpoint import Checkpoint


def test_log_mel_statistics_equal_those_of_librosa(checkpoint: Checkpoint, sounds: Tensor) -> None:
    embeddings = get_scene_embeddings(sounds, log_mel_statistics(checkpoint, "cpu")).numpy()
    for wave, embedding in zip(sounds.numpy(), embeddings, strict=True):
        power = librosa.feature.melspectrogram(
            y=wave.astype(np.float64), sr=16000, n_fft=1024, hop_length=160, pad_mode="reflect",
            n_mels=64, fmin=60, fmax=7800, htk=True, norm=None,
        )  # fmt: skip
        normalised = (np.log(power + np.finfo(np.float32).eps) + 4.95) / 5.855
        expected = np.concatenate([normalised.mean(axis=1), normalised.std(axis=1)])
        np.testing.assert_allclose(embedding, expected, atol=2e-4)


def test_random_init_is_the_same_every_time_and_not_the_checkpoint(
    checkpoint: Checkpoint, sounds: Tensor
) -> None:
    systems = compared_systems(checkpoint, "cpu")
    once, again = (get_scene_embeddings(sounds, random_init(checkpoint, "cpu")) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(once, get_scene_embeddings(sounds, systems["random init"]))
    trained = get_scene_embeddings(sounds, systems["checkpoint"])
    assert trained.shape == once.shape
    assert not torch.allclose(trained, once, atol=1e-2)


def test_random_init_leaves_the_random_generator_alone(checkpoint: Checkpoint) -> None:
    before = torch.get_rng_state()
    random_init(checkpoint, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_every_system_gives_timestamp_embeddings(checkpoint: Checkpoint, sounds: Tensor) -> None:
    for model in compared_systems(checkpoint, "cpu").values():
        embeddings, timestamps = get_timestamp_embeddings(sounds[:2], model)
        assert embeddings.shape == (2, 21, model.timestamp_embedding_size)
        assert timestamps.shape == (2, 21)
