"""`make bench-views`: every view is timed in every way that is there, in one table."""

import json
from pathlib import Path

import pytest
import torch
from views_bench import LOOP, OTHERS, OURS, BenchViews, loop, ours, table

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.train.views.registry import WAVE_PRESETS, make_chain, view_names


def test_all_views_and_presets_are_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("views_bench.LEAST_S", 1e-9)
    BenchViews(batch=2, seconds=0.1, rounds=1, device="cpu", json=tmp_path / "views.json").run()
    found = json.loads((tmp_path / "views.json").read_text())["times"]
    timed = {(each["view"], each["way"]) for each in found}
    for name in (*view_names(), *WAVE_PRESETS):
        assert {(name, OURS), (name, LOOP)} <= timed
    assert all(each["ms"] > 0 for each in found)
    out = capsys.readouterr().out
    assert all(name in out for name in (*view_names(), *WAVE_PRESETS, *OTHERS))


def test_a_loop_over_samples_changes_every_clip_as_the_batch_does() -> None:
    x = torch.randn(3, 1600, generator=torch.Generator().manual_seed(0))
    chain = make_chain(("gain", "polarity", "low-pass"), {})
    together, _ = ours(chain, x, torch.device("cpu"))()  # type: ignore[misc]
    first = loop(chain, x)()[0][0]  # type: ignore[index]
    torch.testing.assert_close(together[:1], first, atol=1e-5, rtol=1e-5)


def test_the_ratio_is_the_best_of_the_others_to_ours() -> None:
    text = table({("gain", OURS): 2.0, ("gain", LOOP): 30.0, ("gain", "pedalboard"): 10.0})
    (line,) = (line for line in text.splitlines() if line.startswith("gain"))
    assert line.split() == ["gain", "2.00", "30.00", "10.00", "5.0"]
    assert text.splitlines()[-1] == "not installed: audiomentations, torch_audiomentations"


def test_impossible_sizes_are_one_line() -> None:
    with pytest.raises(UserError, match="batch and rounds must be 1 or more"):
        BenchViews(batch=0)
