"""`abt train bench`: its figures belong together, and the arithmetic is counted right."""

import json
from pathlib import Path

import pytest

from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.train.presets import PRESETS
from audio_barlow_twins.train.tools.bench import Bench

BATCH = 4


def test_a_bench_reports_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audio_barlow_twins.train.tools.bench.CLIPS", 64)
    Bench(
        presets=("demo",), batch=BATCH, steps=2, rounds=1, device="cpu", profile=5,
        json=tmp_path / "bench.json",
    ).run()  # fmt: skip
    out = capsys.readouterr().out
    assert "demo, plain steps of 4" in out
    assert "Self CPU time total" in out
    (step,) = json.loads((tmp_path / "bench.json").read_text())["steps"]
    assert step["read_bytes"] == BATCH * 96 * 64 * 2
    assert sum(step["shares"].values()) == pytest.approx(1)
    # Backward takes twice the forward's operations, but for the gradient of the input.
    forward = products_of_a_forward_pass()
    assert 2.8 * forward < step["flop"] <= 3 * forward + 6 * 256**2 * BATCH


def products_of_a_forward_pass() -> int:
    """Count operations of two views through encoder and projector, from sizes of the layers."""
    config = PRESETS["demo"][1]
    encoder = build_encoder("audiontt", {})
    # Places in time and frequency at which the kernels of a layer are used.
    places = {"features.0": 96 * 64, "features.4": 48 * 32, "fc.0": 24, "fc.3": 24}
    weights = dict(encoder.named_parameters())
    once = sum(weights[f"{name}.weight"].numel() * count for name, count in places.items())
    once += 3072 * config.projector_hidden + config.projector_hidden * config.projector_out
    return 2 * 2 * BATCH * once


def test_an_unknown_preset_is_one_line() -> None:
    with pytest.raises(UserError, match="no preset is called vitc-x; choose from demo"):
        Bench(presets=("vitc-x",))


def test_what_was_measured_stays_when_something_fails_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audio_barlow_twins.train.tools.bench.CLIPS", 64)
    bench = Bench(
        presets=("demo",), batch=BATCH, steps=1, rounds=1, device="cpu", step=("plain", "graph"),
        json=tmp_path / "bench.json",
    )  # fmt: skip
    with pytest.raises(UserError, match="--step graph takes one process with a GPU"):
        bench.run()
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [(step["preset"], step["kind"]) for step in found["steps"]] == [("demo", "plain")]
