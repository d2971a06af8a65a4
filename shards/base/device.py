"""Choose the device for tensors: the one asked for, or a GPU if there is one."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .errors import UserError, first_line

Model = TypeVar("Model", bound=nn.Module)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3): free memory above which some goes back, and how many blocks get pages
of their own, which do so at once."""


def device_name(device: str | None) -> str:
    """Return the device asked for; for None or "auto" a GPU if there is one, else the CPU."""
    if device in (None, "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device or "cpu"


def on_device(model: Model, device: str | None) -> Model:
    """Move a model to a device, see `device_name`; raise UserError if there is no such device."""
    try:
        return model.to(device_name(device))
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on its build
        reason = first_line(error)
        raise UserError(f"device {device!r} cannot be used: {reason}") from error


def on_gpu(device: str, gpus: int) -> bool:
    """Tell whether processes get a GPU each; raise UserError if there is none for cuda."""
    if device == "cuda" and not gpus:
        raise UserError(
            "device is cuda, but the Ray cluster has no GPU; add nodes, or use --device cpu or auto"
        )
    return device != "cpu" and gpus > 0


def has_bf16(device: torch.device) -> bool:
    """Tell whether the device has bfloat16 arithmetic of its own; emulated, it is the slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    flags = Path("/proc/cpuinfo")
    return flags.exists() and bool({"avx512_bf16", "amx_bf16"} & set(flags.read_text().split()))


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees; where glibc's malloc is not, do nothing.

    A training step on the CPU frees its activations and allocates the same again. The kernel, to
    which glibc returns blocks of that size, would clear each page every time: a third of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


@contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """Let a GPU take only kernels that give the same bits every time, where there are such.

    torch warns of the others. It must begin before the first product on the GPU.
    """
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.deterministic
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        # The fused kernels of attention are repeatable only if torch may refuse all others.
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        cudnn.deterministic = before
        torch.use_deterministic_algorithms(False)


def exactly(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Call with `exact_products`; compiled code leaves that to its caller, as it cannot set it."""
    if torch.compiler.is_compiling():
        return work(x)
    with exact_products():
        return work(x)


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply and convolve float32 as such on a GPU, not rounded to TensorFloat-32's 11 bits."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    try:
        products.allow_tf32 = convolutions.allow_tf32 = False
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
