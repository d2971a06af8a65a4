"""The command `abt`: a room, and what the room is asked to do."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from audio_barlow_twins.shards.base.cli import command, dispatch, run_command
from audio_barlow_twins.shards.base.errors import UserError

ABOUT = """Audio Barlow Twins: audio in, an encoder and its scores out.
What was finished is kept; the same command again does what is missing.
`abt --import MODULE COMMAND …` imports a module of yours first, such as one with a view."""

COMMANDS = {
    "ingest": command("Audio in, shard sets out.", "ingest.command.COMMANDS"),
    "shards": command("Look at shard sets, check them, derive one.", "shards.command.COMMANDS"),
    "train": command("Pre-train an encoder; look at views; ablate.", "train.command.COMMANDS"),
    "eval": command("Score encoders, embed sound, pass encoders on.", "eval.command.COMMANDS"),
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
"""The extras of our package that a command needs."""
PACKAGES = {
    **dict.fromkeys(("ray", "webdataset"), "shards"),
    **dict.fromkeys(("fsspec", "yt_dlp", "ffmpeg", "imageio_ffmpeg", "soxr"), "ingest"),
    **dict.fromkeys(("s3fs", "upath"), "s3"),
    **dict.fromkeys(("matplotlib", "tensorboard"), "train"),
    **dict.fromkeys(("soundfile", "scipy"), "eval"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime", "safetensors"), "export"),
    "huggingface_hub": "hub",
    "transformers": "wav2vec2",
}
"""The extra that brings a package which may be missing."""


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line names, or `words`."""
    run_command(partial(run, sys.argv[1:] if words is None else words))


def run(words: Sequence[str]) -> None:
    """Run what `words` name.

    Raises:
        UserError: there is no such command, a package is missing, or what the command raises.
        SystemExit: help was asked for, or the words do not fit.
    """
    while words[:1] == ["--import"]:
        if len(words) == 1:
            raise UserError("--import wants the name of a module")
        sys.path.insert(0, "")  # where modules of one's own lie
        import_module(words[1])
        words = words[2:]
    try:
        dispatch("abt", ABOUT, COMMANDS, words)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        extras = STAGES.get(words[0], ())
        known = PACKAGES[package] in ("shards", "ingest", "train", "eval") and extras
        wanted = ",".join(extras if known else (*extras, PACKAGES[package]))
        raise UserError(
            f"`abt {words[0]}` needs {package}, which is not installed: "
            f"`pip install 'audio-barlow-twins[{wanted}]'`"
        ) from error
