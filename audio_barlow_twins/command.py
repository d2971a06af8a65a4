"""The command `abt`: its subcommands, and the extra to install when a package is missing."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from audio_barlow_twins.shards.base.cli import command, dispatch, run_command
from audio_barlow_twins.shards.base.errors import UserError

ABOUT = """Audio Barlow Twins: audio in, an encoder and its scores out.
Finished work is kept; run the same command again to do what is missing.
`abt --import MODULE COMMAND …` first imports a module of yours, such as one that defines a view."""

COMMANDS = {
    "ingest": command("Audio in, shard sets out.", "ingest.command.COMMANDS"),
    "shards": command("Look at shard sets, check them, derive one.", "shards.command.COMMANDS"),
    "train": command("Pre-train an encoder; look at views; ablate.", "train.command.COMMANDS"),
    "eval": command("Score encoders, embed sound, share encoders.", "eval.command.COMMANDS"),
    "model": command("List the encoders.", "model.command.Encoders"),
    "embed": command("Short for `abt eval embed`.", "eval.embed.embed.Embed"),
    "similar": command("Short for `abt eval similar`.", "eval.share.similar.Similar"),
    "export": command("Short for `abt eval export`.", "eval.share.export.Export"),
}
STAGES = {
    "ingest": ("ingest",),
    "shards": ("shards",),
    "train": ("train",),
    "eval": ("shards", "eval"),
    "embed": ("eval",),
    "similar": ("eval",),
    "export": ("eval", "export"),
}
"""The extras of this package that each command needs."""
PACKAGES = {
    **dict.fromkeys(("ray", "webdataset"), ("shards", "ingest")),
    **dict.fromkeys(("fsspec", "yt_dlp", "requests"), ("ingest",)),
    **dict.fromkeys(("ffmpeg", "imageio_ffmpeg", "soxr"), ("ingest", "eval")),
    **dict.fromkeys(("s3fs", "upath"), ("s3",)),
    **dict.fromkeys(("matplotlib", "tensorboard"), ("train",)),
    **dict.fromkeys(("soundfile", "scipy"), ("eval",)),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), ("export",)),
    "huggingface_hub": ("hub",),
    "transformers": ("wav2vec2",),
}
"""The extras that install each optional package; the first is named to who has none of them."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the command in `words`, by default that of the command line."""
    # OpenMP's threads wait asleep and not spinning, which takes the cores from whatever else runs:
    # beside one busy process, training on two cores makes 54 clips/s and not 37, alone no less.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Modules of the user's are found in the working directory, after all that are installed.
    sys.path.append("")
    run_command(partial(run, sys.argv[1:] if words is None else words))


def run(words: Sequence[str]) -> None:
    """Run the command in `words`.

    Raises:
        UserError: there is no such command, it lacks a package, or it fails with this error.
        SystemExit: after `--help`, or if the words do not parse.
    """
    while words[:1] == ["--import"]:
        if len(words) == 1:
            raise UserError("--import needs the name of a module")
        _import(words[1])
        words = words[2:]
    try:
        dispatch("abt", ABOUT, COMMANDS, words)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        extras = STAGES.get(words[0], ())
        missing, *_ = PACKAGES[package]
        wanted = extras if set(extras) & set(PACKAGES[package]) else (*extras, missing)
        raise UserError(
            f"`abt {words[0]}` needs {package}, which is not installed: "
            f"`pip install 'audio-barlow-twins[{','.join(wanted)}]'`"
        ) from error


def _import(module: str) -> None:
    """Import a module of the user's; raise UserError if there is none of this name."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # what it imports is missing
        raise UserError(
            f"--import {module}: there is no such module, installed or in this folder; "
            "its name has no .py"
        ) from error
