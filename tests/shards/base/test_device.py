"""What is asked of a device before work begins on it."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from audio_barlow_twins.shards.base.device import keep_freed_memory

{call}
def touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(50_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
touched()
print(touched())
"""


def faults(call: str) -> int:
    """Return how many pages the kernel hands out for ten blocks of 200 MB, after ten others."""
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_is_used_again_and_not_asked_for_anew() -> None:
    assert faults("") > 100_000
    assert faults("keep_freed_memory()") < 1000
