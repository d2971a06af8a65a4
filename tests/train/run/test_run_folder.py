"""The run folder: what may be resumed, what is kept, what a kill leaves behind."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_encoder import SMALL

from audio_barlow_twins.model.checkpoint import Checkpoint, load_checkpoint
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.train.config import OptimiserConfig, TrainConfig
from audio_barlow_twins.train.run.folder import RunFolder, read_metrics
from audio_barlow_twins.train.views.add import Background
from audio_barlow_twins.train.views.base import View
from audio_barlow_twins.train.views.level import Fade, Gain
from audio_barlow_twins.train.views.logmel import Mixup
from audio_barlow_twins.train.views.time import TimeStretch


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Describe a run that is never taken."""
    return TrainConfig(shards=str(tmp_path / "shards"), run=tmp_path / "runs" / "one")


@pytest.fixture(scope="module")
def make_checkpoint() -> Callable[[int], Checkpoint]:
    """Return a function that makes the checkpoint of a small encoder at some step."""
    sizes: dict[str, int | float] = {"width": 8, "channels": 2}

    def make(step: int) -> Checkpoint:
        return Checkpoint(
            encoder="audiontt",
            sizes=sizes,
            state=build_encoder("audiontt", sizes).state_dict(),
            front_end={},
            mean=-3.0,
            std=5.0,
            fingerprint="f",
            step=step,
            training={"projector": {"w": torch.ones(2)}, "optimiser": {}},
        )

    return make


def test_a_new_run_keeps_its_config_as_readable_json(config: TrainConfig) -> None:
    assert RunFolder(config).checkpoint is None
    text = (config.run / "config.json").read_text()
    kept = json.loads(text)
    assert len(text.splitlines()) > 20
    assert kept["batch"] == 128
    assert kept["shards"] == str(config.shards)
    assert kept["optimiser"]["lr_weights"] == 0.4
    assert kept["views"] == ["mixup", "rrc", "rlf"]
    assert list(kept["ranges"]) == kept["views"]
    assert kept["ranges"]["rrc"]["scale"] == [0.6, 1.5]


def test_a_run_that_was_never_saved_starts_again_without_being_asked(config: TrainConfig) -> None:
    RunFolder(config).write(1, loss=5.0)
    again = RunFolder(replace(config, batch=64))
    assert again.checkpoint is None
    assert read_metrics(again.metrics_path) == []
    assert json.loads(again.config_path.read_text())["batch"] == 64


def test_resume_without_a_run_starts_one(config: TrainConfig) -> None:
    assert RunFolder(replace(config, resume=True)).checkpoint is None
    assert (config.run / "config.json").exists()


def test_a_saved_run_is_not_started_a_second_time(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    RunFolder(config).save(make_checkpoint(3))
    with pytest.raises(UserError, match="holds a run already; continue it by --resume") as caught:
        RunFolder(config)
    assert str(config.run) in str(caught.value)


def test_resume_gives_the_saved_step(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    RunFolder(config).save(make_checkpoint(3))
    found = RunFolder(replace(config, resume=True)).checkpoint
    assert found is not None
    assert found.step == 3


def test_a_run_with_the_reader_of_an_earlier_version_goes_on(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    folder = RunFolder(config)
    folder.save(make_checkpoint(3))
    kept = json.loads(folder.config_path.read_text())
    del kept["reader_ahead"]
    kept["reader_threads"] = 4
    kept["cache"] |= {"threads": 8, "tries": 5, "timeout_s": 30}
    folder.config_path.write_text(json.dumps(kept))
    found = RunFolder(replace(config, resume=True)).checkpoint
    assert found is not None
    assert found.step == 3


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"batch": 64}, "batch"),
        ({"seed": 1}, "seed"),
        ({"epochs": 7.0}, "epochs"),
        ({"precision": "bf16"}, "precision"),
        ({"views": ("rrc",)}, "views"),
        ({"ranges": {"mixup": Mixup(memory=7)}}, "ranges.mixup"),
        ({"optimiser": OptimiserConfig(momentum=0.8)}, "optimiser"),
    ],
)
def test_a_run_goes_on_only_with_the_config_it_began_with(
    config: TrainConfig,
    make_checkpoint: Callable[[int], Checkpoint],
    change: dict[str, Any],
    name: str,
) -> None:
    RunFolder(config).save(make_checkpoint(3))
    with pytest.raises(UserError, match=f"was started with {name} ") as caught:
        RunFolder(replace(config, resume=True, **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": Path("moved")},
        {"reader_ahead": 1},
        {"log_every": 3},
        {"device": "cpu"},
        {"ranges": {"gain": Gain(gain_db=(-1, 1))}},
    ],
)
def test_what_does_not_change_the_numbers_may_change_on_resume(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint], change: dict[str, Any]
) -> None:
    RunFolder(config).save(make_checkpoint(3))
    assert RunFolder(replace(config, resume=True, **change)).checkpoint is not None


LATER: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (("normalise",), {"normalise": "ppn"}, "normalise set, now it is ppn"),
    (("optimiser", "final_rate"), {"optimiser": OptimiserConfig(final_rate=0.1)}, "optimiser {"),
    (("front_end", "power_eps"), {"front_end": FrontEnd(power_eps=1e-9)}, "front_end {"),
    (("ranges", "mixup", "memory"), {"ranges": {"mixup": Mixup(memory=7)}}, "ranges.mixup {"),
]
"""A setting that an earlier version did not have, another value for it, and how that is named."""


@pytest.mark.parametrize(("setting", "change", "named"), LATER)
def test_a_setting_that_an_earlier_version_did_not_have_was_at_its_default(
    config: TrainConfig,
    make_checkpoint: Callable[[int], Checkpoint],
    setting: tuple[str, ...],
    change: dict[str, Any],
    named: str,
) -> None:
    folder = RunFolder(config)
    folder.save(make_checkpoint(3))
    kept = json.loads(folder.config_path.read_text())
    *outer, last = setting
    part = kept
    for name in outer:
        part = part[name]
    del part[last]
    folder.config_path.write_text(json.dumps(kept))
    assert RunFolder(replace(config, resume=True)).checkpoint is not None
    with pytest.raises(UserError, match=f"was started with {named}"):
        RunFolder(replace(config, resume=True, **change))


class TestEarlierVersion:
    """A run folder from before views had names of their own: config.json as it was written then."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> TrainConfig:
        return TrainConfig(
            shards="data/demo/wave",
            statistics="data/demo/logmel",
            run=tmp_path / "one",
            encoder_options=SMALL,
            projector_hidden=32,
            projector_out=16,
            crop_frames=32,
            batch=24,
            epochs=3,
            views=("time-stretch", "background", "gain", "mixup", "rrc"),
            ranges={
                "time-stretch": TimeStretch(rate=(0.9, 1.1)),
                "background": Background(memory=40),
                "mixup": Mixup(memory=50),
            },
            device="cpu",
            precision="float32",
        )

    @pytest.fixture
    def resumed(
        self, config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
    ) -> TrainConfig:
        RunFolder(config).save(make_checkpoint(3))
        text = (Path(__file__).parent / "earlier_config.json").read_text()
        (config.run / "config.json").write_text(text)
        return replace(config, resume=True)

    def test_it_goes_on(self, resumed: TrainConfig) -> None:
        found = RunFolder(resumed).checkpoint
        assert found is not None
        assert found.step == 3

    @pytest.mark.parametrize(
        "view",
        [
            TimeStretch(),
            Background(memory=41),
            Background(memory=40, snr_db=(0, 9)),
            Mixup(),
            Gain(probability=1),
        ],
    )
    def test_other_options_of_its_views_are_refused(self, resumed: TrainConfig, view: View) -> None:
        changed = replace(resumed, ranges=resumed.ranges | {view.name: view})
        with pytest.raises(UserError, match=f"was started with ranges.{view.name} {{"):
            RunFolder(changed)

    def test_a_final_rate_which_it_did_not_know_is_refused(self, resumed: TrainConfig) -> None:
        with pytest.raises(UserError, match=r"optimiser {.*'final_rate': 0\.0}, now it is .*0\.1}"):
            RunFolder(replace(resumed, optimiser=OptimiserConfig(final_rate=0.1)))

    def test_options_of_views_that_it_does_not_use_are_free(self, resumed: TrainConfig) -> None:
        changed = replace(resumed, ranges=resumed.ranges | {"fade": Fade(probability=0.1)})
        assert RunFolder(changed).checkpoint is not None


def test_lines_of_steps_that_are_taken_again_are_dropped(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    folder = RunFolder(config)
    for step in range(1, 6):
        folder.write(step, loss=float(step))
    folder.save(make_checkpoint(3))
    with folder.metrics_path.open("a") as file:
        file.write('{"step": 6, "lo')  # a killed process's last words
    RunFolder(replace(config, resume=True)).write(4, loss=40.0)
    assert [line["loss"] for line in read_metrics(folder.metrics_path)] == [1.0, 2.0, 3.0, 40.0]


def test_scratch_files_of_a_killed_save_are_removed(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    RunFolder(config).save(make_checkpoint(3))
    (config.run / ".checkpoint.pt.4711.tmp").write_bytes(b"half")
    RunFolder(replace(config, resume=True))
    assert not list(config.run.glob(".*"))


def test_the_exported_encoder_is_never_older_than_the_checkpoint(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    folder = RunFolder(config)
    folder.save(make_checkpoint(3))
    # A folder where the checkpoint should go stands for a crash between the two files.
    folder.checkpoint_path.unlink()
    folder.checkpoint_path.mkdir()
    with pytest.raises(OSError, match=r"checkpoint\.pt"):
        folder.save(make_checkpoint(4))
    assert load_checkpoint(folder.encoder_path).step == 4


def test_the_exported_encoder_has_no_training_state(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    folder = RunFolder(config)
    folder.save(make_checkpoint(3))
    assert load_checkpoint(folder.encoder_path).training is None
    assert load_checkpoint(folder.checkpoint_path).training is not None


def test_a_damaged_checkpoint_is_one_line(
    config: TrainConfig, make_checkpoint: Callable[[int], Checkpoint]
) -> None:
    folder = RunFolder(config)
    folder.save(make_checkpoint(3))
    folder.checkpoint_path.write_bytes(folder.checkpoint_path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"checkpoint\.pt: not a checkpoint, or cut short"):
        RunFolder(replace(config, resume=True))
