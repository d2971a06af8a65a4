"""What a run came to: the closing lines and the loss curve, both from metrics.jsonl alone."""

from pathlib import Path
from statistics import fmean

from ..step.clock import PARTS
from .evaluation import name_collapse
from .folder import read_metrics

STALL = 0.02
"""Share of waiting that is worth a word."""
PAPER_EPOCHS = 100
PAPER_CLIPS = 1_629_756
"""The pre-training of the paper: the AudioSet clips that its authors could get."""


def summarise(run: Path) -> str:
    """Say in a few lines how the loss went, how fast it was, and where the time went."""
    lines = read_metrics(run / "metrics.jsonl")
    first, last = lines[: max(1, len(lines) // 10)], lines[-max(1, len(lines) // 10) :]
    seconds = sum(line["seconds"] for line in lines)
    clips = sum(line["seconds"] * line["clips_per_s"] for line in lines)
    shares = {
        part: sum(line["seconds"] * line.get(_field(part), 0.0) for line in lines) / seconds
        for part in PARTS
    }
    spent = ", ".join(
        f"{100 * share:.1f} % {part}" for part, share in sorted(shares.items(), key=lambda x: -x[1])
    )
    return "\n".join(
        [
            f"loss     {fmean(line['loss'] for line in first):.2f} -> "
            f"{fmean(line['loss'] for line in last):.2f} "
            f"(means over the first and the last tenth of {lines[-1]['step']:.0f} steps)",
            *[f"rank     {words}" for words in _ranks(lines)],
            *[f"probe    {words}" for words in _probes(lines)],
            f"speed    {clips / seconds:.1f} clips/s, {seconds / 60:.1f} min",
            f"time     {spent}",
            f"limit    {name_bottleneck(shares)}",
            f"memory   {_peak(lines)} at most, in each of {lines[-1].get('workers', 1):.0f} "
            "process(es)",
            f"AudioSet {_projection(clips / seconds)}",
            f"run      {run}: metrics.jsonl, loss.png, correlation.png, checkpoint.pt, encoder.pt, "
            "config.json",
            f"next     make eval CHECKPOINT={run}/encoder.pt",
        ]
    )


def name_bottleneck(shares: dict[str, float]) -> str:
    """Say in words what a faster machine would have to be faster at.

    Args:
        shares: share of the time of each part, as `Clock.lap` returns them.
    """
    largest = max(shares, key=lambda part: shares[part])
    wait = shares.get("waiting for data", 0.0)
    if largest == "waiting for data":
        words = "the reader: the network waits for data; read faster (--reader-ahead, a local disk)"
    elif wait > STALL:
        words = f"{largest}, but the reader is next: waiting for data costs {100 * wait:.1f} %"
    else:
        words = f"{largest}; the reader keeps up"
    return f"{words} ({100 * shares[largest]:.0f} % of the time is {largest})"


def _ranks(lines: list[dict[str, float]]) -> list[str]:
    """Say how the effective rank of the embeddings went."""
    ranks = [line["effective_rank"] for line in lines if "effective_rank" in line]
    if not ranks:
        return []
    words = f"effective rank of a batch's embeddings {ranks[0]:.1f} -> {ranks[-1]:.1f}"
    return [f"{words}; {name_collapse(ranks[-1])}".rstrip("; ")]


def _probes(lines: list[dict[str, float]]) -> list[str]:
    """Say how the scores of probes went."""
    found = []
    for name in sorted({name for line in lines for name in line if name.startswith("probe_")}):
        scores = [line[name] for line in lines if name in line]
        found.append(f"{name.removeprefix('probe_')} {scores[0]:.3f} -> {scores[-1]:.3f}")
    return found


def _peak(lines: list[dict[str, float]]) -> str:
    """Name the memory that counts: the GPU's where there is one."""
    for name, where in (("peak_device_gb", "GPU memory"), ("peak_host_gb", "memory")):
        if found := [line[name] for line in lines if name in line]:
            return f"{max(found):.2f} GB {where}"
    return "not measured"


def _projection(clips_per_s: float) -> str:
    """Say how long the paper's run would take at this speed."""
    hours = PAPER_EPOCHS * PAPER_CLIPS / clips_per_s / 3600
    length = f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.0f} days"
    return f"{PAPER_EPOCHS} epochs of {PAPER_CLIPS:,} clips would take {length} at this speed"


def share_fields(shares: dict[str, float]) -> dict[str, float]:
    """Name the shares of time for metrics.jsonl."""
    return {_field(part): round(share, 5) for part, share in shares.items()}


def _field(part: str) -> str:
    return "share_" + part.replace(" ", "_")
