"""Other people's checkpoints: the published weights of BYOL-A and of the paper's authors.

A file is recognised, and its encoder's sizes are found, by the keys and shapes of its weights. The
front-end is the one that the weights were trained with:
- BYOL-A v1 (a bare state dict of three blocks): Slaney mel filters with unit area; float64 eps is
  added to the power before them, and float32 eps to the mel power after them. The statistics are
  those of its README; its authors' evaluation uses those of each task.
- BYOL-A v2 (a bare state dict of two blocks): the same filters, float32 eps after them only;
  statistics of its README.
- Audio Barlow Twins (a dictionary whose `model` has keys `backbone.encoder.…`): the front-end of
  the paper; statistics of the data set in the file's arguments, AudioSet's if there are none.
  Their mean pooling is assumed to be that of the patches without [CLS].

The code of BYOL-A does not say how the ends of a clip are padded, so they are padded as is the
default of what computes its spectra: by reflection, as here. Read in the packages, since BYOL-A
pins no versions: `pad_mode` of `librosa.stft` (v1, of March 2021) is "reflect" in 0.8.0 and 0.8.1,
and "constant" (zeros) from 0.9.0 of 2022 on (also 0.9.2, 0.10.0, 0.10.2); that of nnAudio's
MelSpectrogram (v2) is "reflect" in 0.2.6, 0.3.1 and 0.3.3.

None of them has a fingerprint of its training data or its number of steps.
"""

from argparse import Namespace
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audio_barlow_twins.shards.stored.front_end import FrontEnd

from .checkpoint import Checkpoint, CheckpointError, checkpoint_of, is_own, read_torch_file
from .encoders import ENCODERS, VIT_SIZES, Size, build_encoder
from .vit import STRIDES, depth_of, patch_shape

N_MELS, FRAMES = 64, 96
"""Size of the input of all of them."""

HTK = FrontEnd(n_mels=N_MELS)
SLANEY = FrontEnd(n_mels=N_MELS, mel_scale="slaney", mel_norm="slaney")
SLANEY_V1 = replace(SLANEY, power_eps=torch.finfo(torch.float64).eps)

STATISTICS = {
    "audioset": (-0.8294, 4.6230),
    "fsd50k": (-4.950, 5.855),
    "librispeech": (-3.332, 4.205),
}
"""Mean and standard deviation of the authors' log-mel, by data set."""


class Origin(NamedTuple):
    """Whose weights they are, and how their inputs were made."""

    name: str
    front_end: FrontEnd
    mean: float
    std: float


BYOLA_V1 = Origin("BYOL-A v1", SLANEY_V1, -5.4919195, 5.0389895)
BYOLA_V2 = Origin("BYOL-A v2", SLANEY, -9.660292, 4.7219563)


def load_any_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this project, of BYOL-A or of the paper's authors.

    Raises:
        CheckpointError: the file is missing, damaged or unknown.
    """
    payload = read_torch_file(path)
    return checkpoint_of(payload, path) if is_own(payload) else _foreign(payload, path)


def load_foreign(path: Path) -> Checkpoint:
    """Read a checkpoint of BYOL-A or of the paper's authors.

    Raises:
        CheckpointError: the file is missing, damaged or unknown.
    """
    return _foreign(read_torch_file(path), path)


def _foreign(payload: Any, path: Path) -> Checkpoint:
    try:
        origin, encoder, sizes, state = _recognise(payload)
        _check_fit(encoder, sizes, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Checkpoint(
        encoder=encoder,
        sizes=sizes,
        state=state,
        front_end=origin.front_end.parameters(),
        mean=origin.mean,
        std=origin.std,
        fingerprint=f"unknown ({origin.name})",
        step=0,
    )


def _recognise(payload: Any) -> tuple[Origin, str, dict[str, Size], dict[str, Tensor]]:
    """Return the weights' origin, the encoder that they fit, its sizes, and the weights."""
    if not isinstance(payload, Mapping):
        raise CheckpointError(f"holds a {type(payload).__name__}; wanted a dictionary of weights")
    if isinstance(payload.get("model"), Mapping):
        state = _tensors(payload["model"])
        inner, arguments = _without_prefix(state), payload.get("args", Namespace())
        if "cls_token" in inner:
            encoder, sizes = _vit(inner)
            if getattr(arguments, "use_mean_pool", False):
                sizes["pool"] = "mean"
        elif "layer1.0.conv1.weight" in inner:
            encoder, sizes = _resnet(state), {}
        else:
            encoder, sizes = _audiontt(inner)
        return _authors(arguments), encoder, sizes, inner
    state = _tensors(payload)
    encoder, sizes = _audiontt(state)
    return (BYOLA_V2 if encoder == "audiontt" else BYOLA_V1), encoder, sizes, state


def _authors(arguments: Namespace) -> Origin:
    dataset = getattr(arguments, "dataset", "audioset")
    if dataset not in STATISTICS:
        known = ", ".join(STATISTICS)
        raise CheckpointError(f"trained on {dataset!r}; statistics are known of {known}")
    return Origin(f"Audio Barlow Twins, {dataset}", HTK, *STATISTICS[dataset])


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's weights from the authors' state dict, which has the projector, too."""
    for prefix in ("backbone.encoder.encoder.", "backbone.encoder."):
        for start in (prefix, "module." + prefix):
            if found := {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}:
                return found
    raise CheckpointError(f"model holds {_some(state)}; wanted backbone.encoder.…")


def _audiontt(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Size]]:
    blocks = sum(f"features.{4 * i}.weight" in state for i in range(4))
    if blocks not in (2, 3):
        raise CheckpointError(
            f"holds {_some(state)}; wanted weights of BYOL-A (features.0, features.4, fc.0, fc.3 "
            "and for v1 features.8), or of Audio Barlow Twins (model: backbone.encoder.…)"
        )
    channels, *_ = _shape(state, "features.0.weight", 4)
    hidden, _ = _shape(state, "fc.0.weight", 2)
    width, _ = _shape(state, "fc.3.weight", 2)
    sizes: dict[str, Size] = {"n_mels": N_MELS, "channels": channels}
    if blocks == 2:
        return "audiontt", sizes | {"width": width, "hidden": hidden}
    if (name := f"audiontt2020-{width}") not in ENCODERS:
        raise CheckpointError(f"AudioNTT2020 of width {width}; published are 512, 1024, 2048")
    return name, sizes


def _vit(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Size]]:
    # The strides cannot be seen in the weights of convolutions, but the number of positions can.
    *_, dim = _shape(state, "cls_token", 3)
    tokens = _shape(state, "pos_embed", 3)[1] - 1
    stem = [w.shape for k, w in state.items() if k.startswith("patch_embed.proj.") and w.ndim == 4]
    sizes: dict[str, Size] = {"n_mels": N_MELS, "depth": depth_of(state)}
    for letter, size in VIT_SIZES.items():
        for patch, strides in STRIDES.items():
            mels, frames = patch_shape(patch)
            if (dim, tokens) != (size["dim"], (N_MELS // mels) * (FRAMES // frames)):
                continue
            if len(stem) == len(strides) + 1:
                return f"vitc-{letter}-{patch}", sizes
            if [shape[2:] for shape in stem] == [(mels, frames)]:
                return f"vit-{letter}-{patch}", sizes | {"projection": "frozen"}
    kernels = ", ".join(f"{shape[2]}x{shape[3]}" for shape in stem)
    raise CheckpointError(
        f"a ViT of width {dim} with {tokens} patches and kernels {kernels or 'none'}; known are "
        f"widths 768, 384, 192 and patches {', '.join(STRIDES)} of {N_MELS} mels x {FRAMES} frames"
    )


def _resnet(state: Mapping[str, Tensor]) -> str:
    """Tell ResNet-18 from ReGP-NRF, whose weights look alike, by the width of the projector."""
    widths = {512: "resnet18", 4096: "resnet18-regp-nrf"}
    keys = [key for key in state if key.endswith("projector.0.weight")]
    found = [_shape(state, key, 2)[1] for key in keys]
    if len(found) != 1 or found[0] not in widths:
        raise CheckpointError(
            f"a ResNet with projectors of width {found}; wanted one, of 512 (ResNet-18) or 4096 "
            "(ReGP-NRF), since nothing else tells them apart"
        )
    return widths[found[0]]


def _check_fit(name: str, sizes: Mapping[str, Size], state: Mapping[str, Tensor]) -> None:
    with torch.device("meta"):
        wanted = build_encoder(name, sizes).state_dict()
    for problem, keys in (
        ("lacks", wanted.keys() - state.keys()),
        ("has no place for", state.keys() - wanted.keys()),
    ):
        if keys:
            raise CheckpointError(f"{name} {problem} {_some(sorted(keys))}")
    for key, values in wanted.items():
        if values.shape != state[key].shape:
            raise CheckpointError(
                f"shape of {key} is {list(state[key].shape)}, wanted {list(values.shape)} "
                f"as in {name}"
            )


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"holds {key!r}, a {type(value).__name__}; wanted a state dict of tensors"
            )
    return dict(state)


def _shape(state: Mapping[str, Tensor], key: str, ndim: int) -> torch.Size:
    if key not in state or state[key].ndim != ndim:
        found = list(state[key].shape) if key in state else "missing"
        raise CheckpointError(f"{key} is {found}; wanted {ndim} dimensions")
    return state[key].shape


def _some(keys: Collection[str]) -> str:
    return (", ".join(list(keys)[:4]) or "nothing") + ", …" * (len(keys) > 4)
