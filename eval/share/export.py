"""Export of an encoder with its front-end to one file that runs without this project.

Both formats take `audio`, float32 [clips, samples] in [-1, 1], any number of clips of one length,
and return `embeddings`, float32 [clips, features]. The exported model is the `Embedder` itself.

    program = torch.export.load("encoder.pt2").module()          # needs torch only
    session = onnxruntime.InferenceSession("encoder.onnx")       # needs onnxruntime and numpy only
"""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from audio_barlow_twins.model.embedder import Embedder, checkpoint_facts, frozen, read_checkpoint
from audio_barlow_twins.model.pretrained import save_pretrained
from audio_barlow_twins.model.tracing import open_sizes
from audio_barlow_twins.shards.base.cli import Positional
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing

from ..embed.files import MAX_DURATION_S

log = logging.getLogger(__name__)

METADATA = "metadata.json"
"""Name of the metadata inside a torch.export archive."""
TOLERANCE = 1e-4
"""Allowed difference to the Python model, relative to the largest feature if that is above 1."""

Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write an encoder and its front-end in a format that needs no code of this project."""

    checkpoint: Positional[Path]
    """Checkpoint that `abt train` wrote."""
    format: Literal["torch-export", "onnx", "pretrained"]
    """A torch.export archive, an ONNX model, or a folder of safetensors and config.json."""
    half: bool = False
    """Store the weights of `pretrained` as float16, in half the bytes; they load as float32."""
    out: Path | None = None
    """File or folder to write; by default beside the checkpoint, with its name."""

    @property
    def target(self) -> Path:
        ending = {"torch-export": ".pt2", "onnx": ".onnx", "pretrained": ".pretrained"}
        return self.out or self.checkpoint.with_suffix(ending[self.format])

    def __post_init__(self) -> None:
        if self.format == "pretrained" and self.target.is_file():
            raise UserError(f"--out {self.target} is a file; name a folder")
        if self.format != "pretrained" and self.half:
            raise UserError("--half is for --format pretrained")
        if self.format != "pretrained" and self.target.is_dir():
            raise UserError(f"--out {self.target} is a folder; name a file")

    def run(self) -> None:
        checkpoint = read_checkpoint(self.checkpoint)
        if self.format == "pretrained":
            save_pretrained(checkpoint, self.target, self.half)
            log.info("%s: model.safetensors, config.json, README.md", self.target)
            return
        model = frozen(checkpoint, "cpu")
        facts = checkpoint_facts(self.checkpoint, checkpoint)
        write = write_onnx if self.format == "onnx" else write_program
        difference = write(model, self.target, facts)
        log.info(
            "%s: %s, %.1f MB, %d features, within %.1g of the Python model",
            self.target,
            self.format,
            self.target.stat().st_size / 1e6,
            model.scene_embedding_size,
            difference,
        )


def write_program(model: Embedder, out: Path, facts: Mapping[str, Any]) -> float:
    """Write a `torch.export` archive atomically, after comparing it with the model.

    Args:
        model: on the CPU.
        out: the file, usually `.pt2`.
        facts: about the checkpoint, for the file's metadata.

    Returns:
        The largest difference to `model`; see `TOLERANCE`.
    """
    program = traced(model)
    metadata = {METADATA: json.dumps(described(model, facts), indent=2)}
    with replacing(out) as scratch:
        # A file object, because torch warns about a path that does not end in .pt2.
        with scratch.open("wb") as file:
            torch.export.save(program, file, extra_files=metadata)
        with scratch.open("rb") as file:
            return checked(torch.export.load(file).module(), model, out)


def write_onnx(model: Embedder, out: Path, facts: Mapping[str, Any]) -> float:
    """Write an ONNX model as `write_program` does an archive."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, torch.onnx needs it
    except ImportError as error:
        raise UserError(
            f"export to ONNX needs {error.name}, which is not installed: "
            "pip install 'audio-barlow-twins[export]'"
        ) from error
    with _quiet_exporter():
        program: Any = torch.onnx.export(
            traced(model), dynamo=True, verbose=False,
            input_names=["audio"], output_names=["embeddings"],
        )  # fmt: skip
    for name, value in described(model, facts).items():
        program.model.metadata_props[name] = value if isinstance(value, str) else json.dumps(value)
    with replacing(out) as scratch:
        program.save(scratch, external_data=False)
        session = onnxruntime.InferenceSession(scratch, providers=["CPUExecutionProvider"])
        return checked(
            lambda audio: torch.from_numpy(session.run(None, {"audio": audio.numpy()})[0]),
            model,
            out,
        )


def described(model: Embedder, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's metadata: facts about the checkpoint, and sizes of input and output."""
    return {
        **facts,
        "sample_rate": model.sample_rate,
        "embedding_size": model.scene_embedding_size,
        "min_samples": model.least_samples,
        "max_samples": MAX_DURATION_S * model.sample_rate,
    }


def traced(model: Embedder) -> ExportedProgram:
    """Trace a model for any number of clips, each from `least_samples` to ten minutes long."""
    longest = MAX_DURATION_S * model.sample_rate
    dynamic = {0: Dim("clips", min=1), 1: Dim("samples", min=model.least_samples, max=longest)}
    example = (torch.zeros(2, model.sample_rate),)
    with open_sizes():
        return torch.export.export(owning(model), example, dynamic_shapes={"audio": dynamic})


def owning(model: Embedder) -> Embedder:
    """Copy a model so that every buffer owns its memory, as archives need it."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())
    return model


def checked(embed: Embed, model: Embedder, out: Path) -> float:
    """Return the largest difference of an exported model to its original on several batches.

    Raises:
        UserError: it is above `TOLERANCE`, or NaN.
    """
    noise = torch.Generator().manual_seed(0)
    differences = []
    for clips, samples in (
        (1, model.least_samples),
        (2, model.sample_rate),
        (3, 2 * model.sample_rate + 2345),
    ):
        loudness = torch.logspace(-3, 0, clips)[:, None]
        audio = loudness * (2 * torch.rand(clips, samples, generator=noise) - 1)
        wanted = model(audio)
        scale = max(1.0, wanted.abs().max().item())
        differences.append((embed(audio) - wanted).abs().max() / scale)
    largest = torch.stack(differences).max().item()  # NaN if any is NaN
    if not largest <= TOLERANCE:
        raise UserError(
            f"{out}: not written: differs from the Python model by {largest:.2g}, "
            f"allowed is {TOLERANCE}; please report it"
        )
    return largest


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's messages about its optimisations and about missing torchvision."""
    levels = {
        "torch.onnx": logging.ERROR,
        "onnxscript": logging.WARNING,
        "onnx_ir": logging.WARNING,
    }
    loggers = [logging.getLogger(name) for name in levels]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(levels[logger.name])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
