"""Make a log-mel set from a wave set, shard by shard, on Ray."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from .base.cli import Positional, say
from .base.files import make_folder, remove_scratch
from .base.place import place, reaching, read_each
from .base.progress import report_progress
from .cluster.fan_out import fan_out
from .stored.form import logmel_form, wave_form
from .stored.front_end import FrontEnd
from .stored.shardset import open_shards, sidecar_paths
from .stored.sidecar import Row, Sidecar, Summary, read_clip, read_rows
from .stored.writer import ShardReport, committed_plans, require_plan, writing_shard


@dataclass(frozen=True, kw_only=True)
class Logmel:
    """Make a log-mel set from a wave set, with any front-end."""

    source: Positional[str]
    """The wave set: a folder, or a URL such as s3://bucket/wave."""
    out: str
    """The new log-mel set: a folder, or a URL."""
    slots: int | None = None
    """CPUs to use on this machine; default: all."""
    front_end: FrontEnd = field(default_factory=FrontEnd)
    """The log-mel to make."""

    def run(self) -> None:
        outcomes = Counter[str]()
        source, out = place(self.source), place(self.out)
        for report in derive_logmel(source, out, self.front_end, self.slots):
            outcomes.update(report.outcomes)
        made = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items()) or "nothing to do"
        say(f"{self.out}: {made}; fingerprint {open_shards(self.out).fingerprint}")


@dataclass(frozen=True)
class Derivation:
    """One log-mel shard to make."""

    source: Path
    """Sidecar of the wave shard."""
    target: Path
    """The log-mel set."""
    plan: str
    front_end: FrontEnd


def derive_logmel(
    source: Path, target: Path, front_end: FrontEnd, slots: int | None = None
) -> Iterator[ShardReport]:
    """Make the log-mel shards that `target` lacks; yield a report as each one finishes.

    Raises:
        UserError: `source` is no wave set, or `target` holds other clips or another front-end.
    """
    paths = sidecar_paths(source)
    finished = committed_plans(target, logmel_form(front_end))
    tasks, clips = [], 0
    for path, (summary, count) in zip(paths, read_each(_read_footer, paths), strict=True):
        summary.form.require(wave_form(), str(path))
        if path.stem in finished:
            require_plan(target, path.stem, finished[path.stem], summary.plan)
        else:
            tasks.append(Derivation(path.resolve(), target.resolve(), summary.plan, front_end))
            clips += count
    if tasks:
        make_folder(target)
        yield from fan_out(derive_shard, tasks, total_clips=clips, title="log-mel", slots=slots)
    remove_scratch(target)


def derive_shard(task: Derivation) -> ShardReport:
    import torch  # large; the driver needs none of it

    from .stored.logmel import LogMel, stored_logmel

    torch.set_num_threads(1)
    log_mel, least = LogMel(task.front_end), task.front_end.least_samples
    name, form = task.source.stem, logmel_form(task.front_end)
    with (
        reaching(task.source),
        task.source.with_suffix(".tar").open("rb") as tar,
        writing_shard(task.target, name, form, task.plan) as writer,
    ):
        for row in read_rows(task.source):
            samples = read_clip(tar, row, wave_form()) if row.status == "ok" else None
            if samples is None:
                writer.fail(row)
            elif len(samples) < least:
                message = f"too short: {len(samples)} samples, this log-mel needs {least}"
                writer.fail(_failed(row, message))
            else:
                writer.add(row, stored_logmel(log_mel, samples))
            report_progress(1)
    return writer.report()


def _read_footer(path: Path) -> tuple[Summary, int]:
    sidecar = Sidecar(path)
    return sidecar.summary(), sidecar.count()


def _failed(row: Row, message: str) -> Row:
    """Return the row of a stored clip as failed, because this front-end cannot take it."""
    return replace(
        row, status="failed", failure="bad_audio", message=message, record_offset=None,
        record_bytes=None, offset=None, n_frames=None, checksum=None, mean=None, m2=None,
    )  # fmt: skip
