"""A view of one's own: one class in one place, and everything knows it, no product file edited."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from drawing import keys_of, numbers, plain_integers, plain_uniforms
from torch import Tensor
from views_bench import LOOP, OURS, BenchViews
from waiting import wait_until

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel
from audio_barlow_twins.shards.stored.shardset import open_shards
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.run.folder import RunFolder, read_metrics
from audio_barlow_twins.train.run.session import train
from audio_barlow_twins.train.step.trainer import Trainer
from audio_barlow_twins.train.tools.listen import Listen
from audio_barlow_twins.train.tools.show import Show
from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import (
    VIEWS,
    Drawn,
    LogmelView,
    ViewContext,
    WaveView,
    span,
)
from audio_barlow_twins.train.views.draws import WORD, Numbers
from audio_barlow_twins.train.views.norm import SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews
from audio_barlow_twins.train.views.registry import make_chain, view_names

ROOT = Path(__file__).parents[3]
OWN = ("own-hum", "mixup", "own-ghost")
STEPS = 20


@pytest.fixture(scope="module", autouse=True)
def own() -> Iterator[ModuleType]:
    """Import the user's module for the tests of this file alone."""
    before = dict(VIEWS)
    yield import_module("own_views")
    VIEWS.clear()
    VIEWS.update(before)
    del sys.modules["own_views"]


@pytest.fixture
def config(config: TrainConfig, waves: Path) -> TrainConfig:
    """Describe a run on a few waves with both views."""
    return replace(config, shards=str(waves), views=OWN, batch=3, epochs=6)


KEYS = torch.stack([keys_of(4, view=view) for view in (0, 1)])


class TestPipeline:
    """What the two-view pipeline makes of them, beside the same written out clip by clip."""

    def test_a_view_of_waveforms(self, own: ModuleType) -> None:
        crops = torch.randint(-9000, 9000, (4, 31 * 160), dtype=torch.int16)
        options = {"own-hum": own.Hum(probability=1, level=(0.2, 0.4))}
        made = TwoViews(make_chain(["own-hum"], options), SetNorm(-4, 2), (32, 64), FrontEnd())(
            crops, KEYS
        )
        hum = np.sin(314 * np.arange(31 * 160) / 16000)
        for view, views in enumerate(made):
            # The first number says who is changed.
            levels = plain_uniforms(KEYS[view], "own-hum", 2, 0.2, 0.4)
            for clip, level, out in zip(crops, levels, views, strict=True):
                wave = torch.from_numpy(clip.numpy() / 32768 + level * hum).float()
                expected = (LogMel()(wave[None])[0] + 4) / 2
                torch.testing.assert_close(out, expected, atol=1e-3, rtol=1e-3)

    def test_a_view_of_log_mel_that_takes_earlier_clips(self) -> None:
        views = TwoViews(make_chain(["own-ghost"], {}), SetNorm(-4, 2), (8, 6))
        earlier, x = torch.randn(9, 8, 6), torch.randn(4, 8, 6)
        assert views.memory == 5
        views.remember(earlier)
        for view, made in enumerate(views(x, KEYS)):
            shares = plain_uniforms(KEYS[view], "own-ghost", 1, 0.1, 0.5)
            ages = plain_integers(KEYS[view], "own-ghost", 2, 5)
            for i, (share, age) in enumerate(zip(shares, ages, strict=True)):
                expected = (x[i] + 4) / 2 + share * (earlier[8 - age] + 4) / 2
                torch.testing.assert_close(made[i], expected)


@pytest.mark.usefixtures("one_thread")
def test_a_resumed_run_repeats_the_straight_one(
    config: TrainConfig, take: Callable[[Trainer, int], list[Tensor]]
) -> None:
    straight, resumed = (Trainer(config, open_shards(config.shards)) for _ in range(2))
    take(straight, 3)
    resumed.restore(deepcopy(straight.checkpoint()))
    assert torch.equal(torch.stack(take(straight, 3)), torch.stack(take(resumed, 3)))


def test_the_run_folder_keeps_its_options_and_goes_on_with_no_others(
    config: TrainConfig, own: ModuleType
) -> None:
    hum = own.Hum(level=(0, 0.5))
    config = replace(config, ranges={"own-hum": hum}, epochs=1)
    train(config)
    kept = json.loads((config.run / "config.json").read_text())
    assert kept["views"] == list(OWN)
    assert kept["ranges"]["own-hum"] == {"probability": 0.5, "level": [0, 0.5]}
    assert kept["ranges"]["own-ghost"] == {"share": [0.1, 0.5], "memory": 5}
    assert RunFolder(replace(config, resume=True)).checkpoint is not None
    louder = replace(config, resume=True, ranges={"own-hum": own.Hum()})
    with pytest.raises(UserError, match=r"started with ranges.own-hum \{.*now it is \{"):
        RunFolder(louder)


def test_the_listening_page_shows_it_at_three_strengths(waves: Path, tmp_path: Path) -> None:
    assert "own-hum" in Listen().views
    page = Listen(shards=str(waves), out=tmp_path / "page.html", clips=1, seconds=0.2)
    replace(page, views=("own-hum",)).run()
    text = page.out.read_text()
    assert "Add the hum of the mains." in text
    assert text.count("<audio") == 4
    for level in ("0.0333", "0.0667", "0.1"):
        assert f"own-hum level {level}<" in text


def test_pictures_of_pairs_show_a_view_of_log_mel(shards: Path, tmp_path: Path) -> None:
    key = open_shards(shards).keys[0]
    Show(clip=key, shards=str(shards), out=tmp_path / "views.png", views=("own-ghost",)).run()
    assert (tmp_path / "views.png").stat().st_size > 10_000


def test_the_bench_times_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("views_bench.LEAST_S", 1e-9)
    assert {"own-hum", "own-ghost"} <= {*BenchViews().views}
    bench = BenchViews(batch=2, seconds=0.1, rounds=1, device="cpu", json=tmp_path / "times.json")
    replace(bench, views=("own-hum", "own-ghost")).run()
    times = json.loads((tmp_path / "times.json").read_text())["times"]
    for name in ("own-hum", "own-ghost"):
        assert {each["way"] for each in times if each["view"] == name} == {OURS, LOOP}


class TestName:
    """What a view may be called."""

    def test_one_that_is_taken_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"Louder and .*level\.Gain are both called gain"):

            class Louder(WaveView, name="gain"):
                """Take the name of another."""

        assert VIEWS["gain"].__name__ == "Gain"

    @pytest.mark.parametrize("name", ["rrc+rlf", "Hum", "own hum", "-hum", "own_hum"])
    def test_one_that_a_command_line_could_not_take_is_refused(self, name: str) -> None:
        with pytest.raises(UserError, match=r"a view is called .*; write it like time-shift"):

            class Odd(WaveView, name=name):
                """Have an odd name."""

    def test_a_class_that_is_defined_again_takes_its_place(self) -> None:
        def define(text: str) -> type[LogmelView]:
            class Again(LogmelView, name="own-again"):
                __doc__ = text

            return Again

        first, second = define("one"), define("two")
        assert VIEWS["own-again"] is second is not first
        assert view_names()[-1] == "own-again"
        del VIEWS["own-again"]

    def test_a_class_without_one_is_a_base_of_others(self) -> None:
        class Base(WaveView):
            """Be shared."""

        assert Base not in VIEWS.values()


def abt(folder: Path, *words: object, columns: int = 5000) -> "subprocess.Popen[str]":
    """Start a command in a folder that holds the user's module."""
    shutil.copy(Path(__file__).with_name("own_views.py"), folder)
    return subprocess.Popen(
        [sys.executable, "-m", "audio_barlow_twins", *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": str(columns)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def training(config: TrainConfig) -> list[object]:
    """Write the words of a run of some steps."""
    return [
        "train", "demo", "--shards", config.shards, "--run", "run",
        "--encoder-options", *config.encoder_options, "--batch", 3,
        "--epochs", STEPS, "--projector-hidden", 32, "--projector-out", 16, "--crop-frames", 32,
        "--device", "cpu", "--precision", "float32", "--log-every", 1, "--checkpoint-every-s", 0,
        "--no-preflight", "--look-epochs", STEPS, "--views", *OWN,
    ]  # fmt: skip


class TestCommand:
    """`abt --import own_views …` in the folder of the module."""

    def test_the_help_lists_it_with_its_options(self, tmp_path: Path) -> None:
        words = ["--import", "own_views", "train", "demo", "--help"]
        out, _ = abt(tmp_path, *words, columns=80).communicate()
        out = " ".join(out.replace("│", " ").split())  # lines of a box, put together again
        (names,) = re.findall(r"--views \[{(.*?)}", out)
        assert {"own-hum", "own-ghost", "gain", "mixup"} <= {*names.replace(" ", "").split(",")}
        for part in (
            "Add the hum of the mains.",
            "--ranges.own-hum.probability FLOAT",
            "--ranges.own-hum.level FLOAT FLOAT",
            "Smallest and largest amplitude of the hum.",
            "--ranges.own-ghost.memory INT",
        ):
            assert part in out, part

    def test_without_the_import_one_line_says_what_there_is(
        self, tmp_path: Path, config: TrainConfig
    ) -> None:
        process = abt(tmp_path, *training(config))
        _, error = process.communicate()
        (line,) = (line for line in error.splitlines() if "own-hum" in line)
        assert "no view is called 'own-hum'; choose from " in line
        assert all(name in line for name in ("gain", "time-shift", "mixup", "rrc"))
        assert "`abt --import MODULE …`" in line
        assert process.returncode == 2
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_a_run_is_stopped_and_goes_on_in_two_processes(
        self, tmp_path: Path, config: TrainConfig
    ) -> None:
        words = ["--import", "own_views", *training(config)]
        process = abt(tmp_path, *words)
        wait_until(lambda: len(read_metrics(tmp_path / "run" / "metrics.jsonl")) > 2, process)
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate()
        assert process.returncode == 128 + signal.SIGTERM, error
        assert "stopped by SIGTERM" in out
        process = abt(tmp_path, *words, "--workers", 2, "--resume")
        _, error = process.communicate()
        assert process.returncode == 0, error
        lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
        assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
        assert all(np.isfinite(line["loss"]) for line in lines)


class TestNumbers:
    """Views that draw nothing, too little, or in the way of an earlier version."""

    def test_a_view_may_draw_nothing(self) -> None:
        class Flip(LogmelView, name="own-flip"):
            """Turn a clip upside down."""

            def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
                return x.flip(2)

        views = TwoViews({"own-flip": Flip()}, SetNorm(0, 1), (8, 6))
        x = torch.randn(4, 8, 6)
        assert all(torch.equal(view, x.flip(2)) for view in views(x, KEYS))
        del VIEWS["own-flip"]

    def test_a_view_of_waveforms_need_not_name_what_all_draw(self) -> None:
        class Bare(WaveView, name="own-bare"):
            """Draw one word."""

            def numbers(self) -> Numbers:
                return {"word": WORD}

            def change(self, x: Tensor, drawn: Drawn, context: ViewContext) -> Tensor:
                assert list(drawn) == ["word"]
                return -x

        view = Bare()
        x = torch.randn(4, 100)
        context = ViewContext(shape=(100,), bank=Bank(1, (100,)))
        made, drawn = view(x, numbers(view, KEYS[0]), context)
        assert torch.equal(made, torch.where(drawn["applied"][:, None], -x, x))
        del VIEWS["own-bare"]

    def test_the_method_of_an_earlier_version_is_refused(self) -> None:
        with pytest.raises(
            UserError, match=r"Old has a method `draw`, which became two: `numbers`"
        ):

            class Old(LogmelView, name="own-old"):
                """Draw as before."""

                def draw(self, draws: object, context: ViewContext) -> Drawn:
                    return {}

    def test_octaves_begin_above_zero(self) -> None:
        class Deep(LogmelView, name="own-deep"):
            """Draw octaves."""

            hz: tuple[float, float] = span(1, 2, octaves=True)

        with pytest.raises(UserError, match=r"own-deep.hz is \(0, 1\), drawn by octaves; choose"):
            Deep(hz=(0, 1))
        del VIEWS["own-deep"]
