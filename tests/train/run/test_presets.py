"""Presets: the numbers that the paper states, and that each one can be built."""

import pytest
import torch

from audio_barlow_twins.model.barlow_twins import BarlowTwins
from audio_barlow_twins.model.encoders import build_encoder, encoder_options
from audio_barlow_twins.train.presets import PRESETS
from audio_barlow_twins.train.views.base import WaveView
from audio_barlow_twins.train.views.logmel import Mixup, RandomLinearFader, RandomResizeCrop
from audio_barlow_twins.train.views.time import PitchShift


@pytest.mark.parametrize("name", PRESETS)
def test_the_network_of_a_preset_can_be_built(name: str) -> None:
    source, config = PRESETS[name]
    assert source
    with torch.device("meta"):
        options = encoder_options(config.encoder, config.encoder_options)
        BarlowTwins(
            build_encoder(config.encoder, {"n_mels": 64, **options}),
            hidden=config.projector_hidden,
            out_features=config.projector_out,
            lambda_=config.lambda_,
            layers=config.projector_layers,
        )


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "demo"])
def test_presets_of_the_paper_have_what_it_says_of_all_runs(name: str) -> None:
    config = PRESETS[name][1]
    assert (config.batch, config.epochs, config.crop_frames) == (128, 100, 96)
    assert (config.lambda_, config.projector_hidden, config.projector_layers) == (0.005, 8192, 1)
    assert config.optimiser.warmup_epochs == 1
    assert config.views == ("mixup", "rrc", "rlf") or "waveform" in name
    assert config.ranges["mixup"] == Mixup(alpha=0.2, memory=2048)
    assert config.ranges["rrc"] == RandomResizeCrop(scale=(0.6, 1.5), canvas=1.5)
    assert config.ranges["rlf"] == RandomLinearFader(gain=1.0)


def test_presets_of_waveforms_change_waveforms_and_the_one_keeps_the_pitch() -> None:
    waveform = {name: config for name, (_, config) in PRESETS.items() if "waveform" in name}
    assert len(waveform) == 4
    for config in waveform.values():
        assert config.shards.endswith("/wave")
        assert any(isinstance(view, WaveView) for view in config.chain.values())
    assert waveform["paper+waveform"].views[-3:] == ("mixup", "rrc", "rlf")
    keeping = waveform["waveform-keeping-pitch"].views
    assert not {"pitch-shift", "rrc"} & {*keeping}
    assert waveform["waveform-light"].chain["pitch-shift"] == PitchShift(cents=(-100, 100))


def test_transformers_train_with_adamw_and_convolutions_with_lars() -> None:
    vit, ntt = (PRESETS[f"{name}-audioset"][1].optimiser for name in ("vitc-b", "audiontt"))
    assert (vit.kind, vit.lr_weights, vit.lr_biases, vit.weight_decay) == (
        "adamw", 6.25e-5, 6.25e-5, 0.24,
    )  # fmt: skip
    assert (ntt.kind, ntt.lr_weights, ntt.lr_biases, ntt.weight_decay) == (
        "lars", 0.4, 0.0048, 1e-5,
    )  # fmt: skip
    assert (ntt.momentum, ntt.trust) == (0.9, 0.001)


def test_presets_on_audioset_say_whose_schedule_they_follow() -> None:
    for name in ("audiontt-audioset", "vitc-b-audioset"):
        source, config = PRESETS[name]
        assert "warm-up of one epoch and cosine to 0" in source
        assert "report; their code differs" in source
        assert (config.optimiser.warmup_epochs, config.optimiser.final_rate) == (1, 0)


def test_ablations_have_the_smaller_projector() -> None:
    assert PRESETS["audiontt-fsd50k-ablation"][1].projector_out == 256
    assert PRESETS["audiontt-audioset"][1].projector_out == 1024
