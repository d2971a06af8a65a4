"""The run folder: config.json, metrics.jsonl, TensorBoard events, checkpoints, loss.png."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from audio_barlow_twins.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import make_folder, remove_scratch, replacing

from ..config import TrainConfig

FREE = (
    "run", "resume", "shards", "cache", "device", "reader_ahead", "reader_unit", "log_every",
    "checkpoint_every_s", "workers", "restarts", "max_stall", "preflight", "step",
    "look_epochs", "probe_tasks", "probe",
)  # fmt: skip
"""Settings that may differ when a run is resumed: they do not change the numbers."""

_RANGES = "ranges."
STOP = ".stop"
"""File in a run folder by which the driver of a cluster asks to stop; holds a signal's number."""


class RunFolder:
    """The files of one run, in the folder `config.run`.

    Raises:
        UserError: the folder holds a run, and it is not to be resumed or has another config.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.path = config.run
        self.config_path = self.path / "config.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.checkpoint_path = self.path / "checkpoint.pt"
        self.encoder_path = self.path / "encoder.pt"
        used = {name: asdict(view) for name, view in config.chain.items()}
        plain = plain_json(asdict(config) | {"ranges": used})
        self.checkpoint = self._existing(config.resume, plain)
        if self.checkpoint is None:
            make_folder(self.path)
            with replacing(self.config_path) as scratch:
                scratch.write_text(json.dumps(plain, indent=1) + "\n")
        remove_scratch(self.path)
        self._keep_metrics(self.checkpoint.step if self.checkpoint else 0)

    def _existing(self, resume: bool, config: dict[str, Any]) -> Checkpoint | None:
        if not self.checkpoint_path.exists():
            return None
        if not resume:
            raise UserError(
                f"{self.path} holds a run already; continue it by --resume, "
                "or name another folder with --run"
            )
        if change := find_change(json.loads(self.config_path.read_text()), config, FREE):
            raise UserError(
                f"{self.path} was started with {change}; keep its settings to resume it, or name "
                "another folder with --run"
            )
        try:
            return load_checkpoint(self.checkpoint_path)
        except CheckpointError as error:
            raise UserError(str(error)) from error

    def _keep_metrics(self, step: int) -> None:
        """Drop the lines of steps after the checkpoint, which will be taken again."""
        kept = [line for line in read_metrics(self.metrics_path) if line["step"] <= step]
        with replacing(self.metrics_path) as scratch:
            scratch.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, **metrics: float) -> None:
        """Append a line to metrics.jsonl."""
        with self.metrics_path.open("a") as file:
            file.write(json.dumps({"step": step} | metrics) + "\n")

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the encoder alone, then the checkpoint to resume from, which marks it done."""
        save_checkpoint(self.encoder_path, replace(checkpoint, training=None))
        save_checkpoint(self.checkpoint_path, checkpoint)


def plain_json(config: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they will be read back from JSON."""
    return json.loads(json.dumps(config, default=str))


def find_change(kept: dict[str, Any], now: dict[str, Any], free: Sequence[str] = ()) -> str:
    """Describe the first setting that differs from a stored config.json; '' if none does.

    Args:
        kept: the stored settings, of this or an earlier version. A setting that it does not have
            was at its present default.
        now: the current ones. Options of views that `kept` does not have count as equal.
        free: names of settings that may differ.
    """
    kept, now = _flat(kept), _flat(now)
    then = _filled(kept, _flat(plain_json(asdict(TrainConfig()))))
    for name in now:
        unknown = name.startswith(_RANGES) and name not in kept
        if not unknown and name not in free and now[name] != then.get(name):
            return f"{name} {then.get(name)}, now it is {now[name]}"
    return ""


def _filled(kept: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """Return stored settings with the defaults `usual` of those that they lack, at any depth."""
    filled = usual | kept
    for name, value in usual.items():
        if isinstance(value, dict) and isinstance(filled[name], dict):
            filled[name] = _filled(filled[name], value)
    return filled


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    ranges = dict(config.get("ranges", {}))
    if "wave_bank" in ranges:  # an earlier version: fields instead of names, and both banks' sizes
        ranges["mixup"] = ranges["mixup"] | {"memory": ranges.pop("bank")}
        ranges["background"] = ranges["background"] | {"memory": ranges.pop("wave_bank")}
    views = {_RANGES + name.replace("_", "-"): options for name, options in ranges.items()}
    return {name: value for name, value in config.items() if name != "ranges"} | views


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read metrics.jsonl, without a last line that a killed process left incomplete."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]
