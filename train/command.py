"""The commands of `abt train`: one for every preset, and the tools."""

from dataclasses import replace
from functools import partial

from audio_barlow_twins.shards.base.cli import MISSING, Command, Commands, command

from .ablation.config import Ablation
from .config import TrainConfig
from .presets import PRESETS


def _train(config: TrainConfig) -> None:
    from .run.launch import start

    start(config)


def _ablation(preset: TrainConfig) -> Ablation:
    return Ablation(base=preset, tasks_dir=MISSING)


ABLATIONS: Commands = {
    name: Command(f"Ablations around {name}: {text}", partial(_ablation, preset))
    for name, (text, preset) in PRESETS.items()
}
COMMANDS: Commands = {
    **{
        name: Command(text, partial(replace, preset), _train)
        for name, (text, preset) in PRESETS.items()
    },
    "views": command("Draw pairs of views of one clip.", "train.tools.show.Show"),
    "listen": command("Write a page to hear views of waveforms.", "train.tools.listen.Listen"),
    "bench": command("Measure training steps on this machine.", "train.tools.bench.Bench"),
    "ablation": Command(
        "Train and score one encoder per setting: ablation PRESET …", lambda: ABLATIONS
    ),
}
