"""Count the kernels that a GPU would be asked for, on fake "cuda" tensors and without a GPU.

The branches for devices that are no CPU are walked, and reading a value, for which a GPU would be
waited for, raises. `python tests/bench/launches.py` prints the table of docs/performance.md.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from audio_barlow_twins.model.barlow_twins import BarlowTwins
from audio_barlow_twins.model.encoders import build_encoder
from audio_barlow_twins.shards.base.cli import run_command, say
from audio_barlow_twins.train.config import TrainConfig
from audio_barlow_twins.train.presets import PRESETS
from audio_barlow_twins.train.step.optimiser import make_optimiser
from audio_barlow_twins.train.step.ranks import Ranks
from audio_barlow_twins.train.step.synced import synchronise
from audio_barlow_twins.train.views.base import WaveView
from audio_barlow_twins.train.views.dsp.constants import MADE
from audio_barlow_twins.train.views.norm import SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews, needed_samples, samples_of
from audio_barlow_twins.train.views.registry import of_kind

FREE = {
    "detach", "alias", "view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "permute",
    "transpose", "t", "slice", "select", "unsqueeze", "squeeze", "split", "split_with_sizes",
    "chunk", "unbind", "unfold", "as_strided", "diagonal", "view_as_real", "view_as_complex",
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh",
    "real", "imag", "is_same_size", "device",
}  # fmt: skip
"""Calls that only describe memory, or reserve it."""
SEVERAL = {
    "native_batch_norm": 3, "_native_batch_norm_legit": 3, "native_batch_norm_backward": 3,
    "convolution": 2, "convolution_backward": 4, "_fused_adamw_": 5,
}  # fmt: skip
"""Kernels of calls that take more than one."""
PER_KERNEL = 40
"""Tensors of a list (`_foreach_…`) that one kernel changes."""


class Launches(TorchDispatchMode):
    """Count kernels, and the bytes that they read and write, by the name of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.float64 = 0
        """Those with float64 among their tensors, which a consumer's GPU computes slowly."""
        self.bytes = 0
        """Every input and output of every call once: an upper bound, since a cache holds some."""

    @property
    def total(self) -> int:
        return self.calls.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        # It changes tensors in place, and is all that there are no fakes of.
        result = None if name == "_fused_adamw_" else func(*args, **(kwargs or {}))
        if name not in FREE:
            number = SEVERAL.get(name, 1)
            if name.startswith("_foreach"):
                number = -(-len(args[0]) // PER_KERNEL)
            self.calls[name] += number
            leaves = tree_leaves((args, kwargs, result))
            tensors = {id(x): x for x in leaves if isinstance(x, Tensor)}.values()
            self.float64 += number * any(x.dtype == torch.float64 for x in tensors)
            self.bytes += sum(_bytes_of(x) for x in tensors)
        return result


def _bytes_of(x: Tensor) -> int:
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


class _Indexing(TorchFunctionMode):
    """Index by calls that a CPU build of torch has for fake "cuda" tensors, too."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__getitem__:
            return _item(*args)
        if func is Tensor.__setitem__:
            x, index, value = args
            write = torch.ops.aten.copy_ if isinstance(value, Tensor) else torch.ops.aten.fill_
            return write(_item(x, index), value)
        if func is Tensor.contiguous:
            return args[0] if args[0].is_contiguous() else torch.ops.aten.clone(args[0])
        if func is Tensor.copy_:
            return torch.ops.aten.copy_(*args[:2])
        return func(*args, **(kwargs or {}))


def _item(x: Tensor, index: Any) -> Tensor:
    """Return x[index] for slices, integers, None, one Ellipsis, and tensors of integers."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if there := [i for i, part in enumerate(parts) if part is Ellipsis]:
        used = sum(part is not None and part is not Ellipsis for part in parts)
        parts[there[0] : there[0] + 1] = [slice(None)] * (x.ndim - used)
    axis, chosen = 0, list[Tensor | None]()
    for part in parts:
        if part is None:
            x = x.unsqueeze(axis)
        elif isinstance(part, int):
            x = x.select(axis, part)
            continue
        elif isinstance(part, slice):
            begin, end, step = part.indices(x.shape[axis])
            x = torch.ops.aten.slice(x, axis, begin, max(begin, end), step)
        chosen.append(part if isinstance(part, Tensor) else None)
        axis += 1
    return x if all(part is None for part in chosen) else torch.ops.aten.index(x, chosen)


@contextmanager
def fake_gpu(*modules: nn.Module) -> Iterator[torch.device]:
    """Compute with shapes alone, on a "cuda" device that needs no GPU.

    The buffers of the modules are moved there, for good.
    """
    with shapes_alone(allow_non_fake_inputs=True), _Indexing():
        for module in (part for whole in modules for part in whole.modules()):
            for name, buffer in module.named_buffers(recurse=False):
                fake = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
                module.register_buffer(name, fake)
        yield torch.device("cuda")


@contextmanager
def shapes_alone(**options: bool) -> Iterator[None]:
    """Compute with tensors that have no values; reading one raises."""
    MADE.clear()  # no fakes among the real ones, and none of these among the fakes
    with FakeTensorMode(**options):
        yield
    MADE.clear()


class Counts(NamedTuple):
    """Launches of the parts of a step."""

    views: Launches
    forward: Launches
    backward: Launches
    optimiser: Launches
    flop: int

    @classmethod
    def of(cls, config: TrainConfig) -> "Counts":
        """Count a step of one process in bfloat16.

        Views and optimiser are on a fake GPU. Backpropagation needs a real one, so network and loss
        are fakes on the CPU, where the calls are the same.
        """
        views = _views(config)
        with fake_gpu(views) as gpu, Launches() as of_views:
            views(_crops(config, gpu), torch.empty(2, config.batch, dtype=torch.int64, device=gpu))
        with shapes_alone():
            network = _network(config)
            views_of = torch.empty(2, config.batch, config.crop_frames, 64).unbind()
            with FlopCounterMode(display=False) as flop:
                with Launches() as forward, torch.autocast("cpu", torch.bfloat16):
                    outcome = network(*views_of)
                with Launches() as backward:
                    outcome.terms.loss.backward()
        return cls(of_views, forward, backward, _optimiser(config), flop.get_total_flops())


def _views(config: TrainConfig) -> TwoViews:
    waves = bool(of_kind(config.chain, WaveView))
    shape = (config.crop_frames, config.front_end.n_mels)
    front_end = config.front_end if waves else None
    return TwoViews(config.chain, SetNorm(0, 1), shape, front_end)


def _crops(config: TrainConfig, gpu: torch.device) -> Tensor:
    if not (waves := of_kind(config.chain, WaveView)):
        shape = config.batch, config.crop_frames, config.front_end.n_mels
        return torch.empty(shape, dtype=torch.float16, device=gpu)
    n_out = samples_of(config.crop_frames, config.front_end)
    samples = needed_samples(waves, n_out, config.front_end.sample_rate)
    return torch.empty(config.batch, samples, dtype=torch.int16, device=gpu)


def _network(config: TrainConfig) -> BarlowTwins:
    network = BarlowTwins(
        build_encoder(config.encoder, {}),
        hidden=config.projector_hidden,
        out_features=config.projector_out,
        lambda_=config.lambda_,
    )
    synchronise(network, Ranks(), config.batch)
    return network


def _optimiser(config: TrainConfig) -> Launches:
    """Count the optimiser's second step; the first makes its state."""
    with shapes_alone():
        shapes = [x.shape for x in _network(config).parameters() if x.requires_grad]
    with fake_gpu() as gpu:
        network = nn.ParameterList([nn.Parameter(torch.empty(s, device=gpu)) for s in shapes])
        for x in network:
            x.grad = torch.empty_like(x)
        optimiser = make_optimiser(network, config.optimiser, config.batch, captured=True)
        with Launches():
            optimiser.step()
        with Launches() as counted:
            optimiser.step()
    return counted


def main() -> None:
    """Print a table of the presets."""
    say("| preset, batch 128 | views | forward | backward | optimiser | all | bytes | FLOP |")
    say("|" + " --- |" * 8)
    for name in ("audiontt-audioset", "vitc-b-audioset", "waveform-light", "waveform-strong"):
        *parts, flop = Counts.of(PRESETS[name][1])
        numbers = [f"{part.total:,}" for part in (*parts,)]
        each = " + ".join(f"{part.bytes / 1e9:.1f}" for part in parts)
        total = sum(part.bytes for part in parts) / 1e9
        all_ = sum(part.total for part in parts)
        row = [name, *numbers, f"{all_:,}", f"{each} = {total:.1f} GB", f"{flop / 1e12:.3f} T"]
        say("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    run_command(main)
