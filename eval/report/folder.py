"""A report as a folder: `report.html`, `report.md` and `scores.csv`, each complete or not there."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing

from ..probe.recipe import Protocol
from .comparison import RANDOM, compare
from .page import report_page
from .published import Published, main_anchors, read_published
from .scores import TaskReport
from .text import report_markdown, scores_csv

PACKAGES = ("torch", "numpy", "scipy", "soxr")


def write_report(
    out: Path,
    reports: Sequence[TaskReport],
    facts: Mapping[str, Any],
    protocol: Protocol,
    anchors: Sequence[Published] | None = None,
    *,
    ours: str = "",
    baseline: str = RANDOM,
    command: str = "",
) -> None:
    """Write the three files of a report, of whatever has been scored so far.

    Args:
        out: folder; made if it is not there.
        reports: of each task; a system may be missing from any.
        facts: what identifies the model, as plain values.
        protocol: how probes were trained.
        anchors: published systems for the tables, those of the paper's if None; the page folds
            all others away.
        ours: name of the system that the report is about; the first one if empty.
        baseline: name of the system that others are measured against.
        command: command line to note.
    """
    published = read_published()
    shown = main_anchors(published) if anchors is None else anchors
    comparison = compare(reports, shown, published, ours, baseline)
    made = _circumstances(protocol, command)
    known = [*shown, *(each for each in published if each not in shown)]
    content = {
        "report.html": report_page(comparison, facts, protocol, made),
        "report.md": report_markdown(comparison, facts, protocol, made),
        "scores.csv": scores_csv(comparison, known),
    }
    try:
        for name, text in content.items():
            with replacing(out / name) as scratch:
                scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from error


def _circumstances(protocol: Protocol, command: str) -> dict[str, str]:
    """Say when, with what and how a report was made."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    seeds = " ".join(map(str, protocol.seeds))
    made = {
        "protocol": f"{protocol.name}, seeds {seeds}, {protocol.grid_points} grid points",
        "written": datetime.now(UTC).isoformat(" ", "seconds"),
        "versions": f"Python {platform.python_version()}, {versions}",
    }
    return made | ({"command": command} if command else {})
