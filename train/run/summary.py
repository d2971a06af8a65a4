"""The summary of a run, from its metrics.jsonl."""

from pathlib import Path
from statistics import fmean

from ..step.clock import PARTS
from .evaluation import name_collapse
from .folder import read_metrics

STALL = 0.02
"""Share of waiting for data above which the summary mentions it."""
FILES = (
    "metrics.jsonl", "loss.png", "correlation.png", "checkpoint.pt", "encoder.pt", "config.json",
)  # fmt: skip
"""What a run may have written."""
PAPER_EPOCHS = 100
PAPER_CLIPS = 1_629_756
"""The AudioSet clips that the paper's authors could get and pre-trained on."""


def summarise(run: Path) -> str:
    """Describe loss, scores, speed and use of time of a run in a few lines."""
    lines = read_metrics(run / "metrics.jsonl")
    first, last = lines[: max(1, len(lines) // 10)], lines[-max(1, len(lines) // 10) :]
    seconds = sum(line["seconds"] for line in lines)
    clips = sum(line["seconds"] * line["clips_per_s"] for line in lines)
    shares = {
        part: sum(line["seconds"] * line.get(_field(part), 0.0) for line in lines) / seconds
        for part in PARTS
    }
    spent = ", ".join(
        f"{100 * share:.1f} % {part}"
        for part, share in sorted(shares.items(), key=lambda x: -x[1])
        if share
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
            f"run      {run}: {', '.join(name for name in FILES if (run / name).exists())}",
            f"next     make eval CHECKPOINT={run}/encoder.pt",
        ]
    )


def name_bottleneck(shares: dict[str, float]) -> str:
    """Describe what limits the speed, from the shares of time that `Clock.lap` returns."""
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
    ranks = [line["effective_rank"] for line in lines if "effective_rank" in line]
    if not ranks:
        return []
    words = f"effective rank of a batch's embeddings {ranks[0]:.1f} -> {ranks[-1]:.1f}"
    return [f"{words}; {name_collapse(ranks[-1])}".rstrip("; ")]


def _probes(lines: list[dict[str, float]]) -> list[str]:
    found = []
    for name in sorted({name for line in lines for name in line if name.startswith("probe_")}):
        scores = [line[name] for line in lines if name in line]
        found.append(f"{name.removeprefix('probe_')} {scores[0]:.3f} -> {scores[-1]:.3f}")
    return found


def _peak(lines: list[dict[str, float]]) -> str:
    for name, where in (("peak_device_gb", "GPU memory"), ("peak_host_gb", "memory")):
        if found := [line[name] for line in lines if name in line]:
            return f"{max(found):.2f} GB {where}"
    return "not measured"


def _projection(clips_per_s: float) -> str:
    hours = PAPER_EPOCHS * PAPER_CLIPS / clips_per_s / 3600
    length = f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.0f} days"
    return f"{PAPER_EPOCHS} epochs of {PAPER_CLIPS:,} clips would take {length} at this speed"


def share_fields(shares: dict[str, float]) -> dict[str, float]:
    """Return shares of time as fields for metrics.jsonl."""
    return {_field(part): round(share, 5) for part, share in shares.items()}


def _field(part: str) -> str:
    return "share_" + part.replace(" ", "_")
