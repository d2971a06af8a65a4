"""The page about a run: what was stored, what is missing and why, and how it sounds."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from jinja2.filters import do_filesizeformat

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.place import reaching
from audio_barlow_twins.shards.html.card import Card
from audio_barlow_twins.shards.html.chart import Bar, Plot, histogram, line_chart, number
from audio_barlow_twins.shards.html.page import render
from audio_barlow_twins.shards.stored.shardset import finished_shards
from audio_barlow_twins.shards.stored.sidecar import Row, read_clip, read_rows

from ..errors import meanings
from ..stage.runlog import read_plan
from .tally import OK, Parts, Tally
from .throughput import Finished, read_log, throughput

TEMPLATE = Path(__file__).with_name("templates") / "ingest.html"
N_SAMPLES = 8
LONGEST_S = 10.0
"""How much of a clip is played and drawn; it bounds the size of the page."""
MOST_LINES = 30


def write_report(out: Path) -> Path:
    """Write OUT/ingest.html from the sidecars and ingest.jsonl below OUT; return its path.

    Raises:
        UserError: there is no finished shard, or one is damaged.
    """
    return Page.of(out).write()


class Page:
    """OUT/ingest.html, to be written several times: no sidecar is read twice."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._parts = {out / kind: Parts() for kind in ("wave", "logmel")}

    @classmethod
    def of(cls, out: Path) -> Self:
        """Return the page of all that is finished."""
        page = cls(out)
        for _ in page.read():
            pass
        return page

    def sound(self) -> str:
        """Say what became of the sound: `12.50 h in: 12.40 h stored, refused 0.10 h bad_audio`."""
        main = max(
            (parts.tally() for parts in self._parts.values() if parts),
            key=lambda each: each.planned,
        )
        refused = main.refused
        text = f"{_hours(main.came_in_s)} in: {_hours(main.stored_s)} stored"
        lost = [f"{_hours(seconds)} {outcome}" for outcome, seconds, _ in refused if seconds]
        text += f", refused {', '.join(lost)}" if lost else ", nothing refused"
        if unknown := sum(n for *_, n in refused):
            text += f"; {unknown:,} clips of unknown length failed"
        return text

    def read(self) -> Iterator[None]:
        """Read the shards that were finished since; pause after each."""
        for folder, parts in self._parts.items():
            yield from parts.read(finished_shards(folder))

    @property
    def is_empty(self) -> bool:
        return not any(self._parts.values())

    def write(self, going_on: bool = False) -> Path:
        """Write what was read; return the path.

        Args:
            going_on: the page says so, and a browser that shows it looks every minute for a newer.

        Raises:
            UserError: there is no finished shard, or one is damaged.
        """
        out = self.out
        if self.is_empty:
            raise UserError(f"{out} holds neither wave nor logmel shards; run the ingest first")
        tallies = {folder: parts.tally() for folder, parts in self._parts.items() if parts}
        main = max(tallies.values(), key=lambda each: each.planned)
        text = render(
            TEMPLATE,
            title="Ingest report",
            subtitle=out.name,
            going_on=going_on,
            standing=_standing(main, read_plan(out).get("clips", main.planned), going_on),
            **_content(tallies, main, list(_log(out / "ingest.jsonl"))),
        )
        target = out / "ingest.html"
        with replacing(target) as scratch:
            scratch.write_text(text, encoding="utf-8")
        return target


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 3600 else f"{seconds:,.1f} s"


def _standing(main: Tally, planned: int, going_on: bool) -> str:
    """Say how much of the plan is finished; '' once all is and nothing goes on."""
    done = f"{number(main.planned)} of {number(planned)} clips"
    if going_on:
        return f"The run is going on: {done}, updated {datetime.now():%Y-%m-%d %H:%M:%S}."
    if main.planned < planned:
        return f"The run has stopped: {done}; the same command goes on."
    return ""


def _log(path: Path) -> Iterator[Finished]:
    if path.exists():
        yield from read_log(path)


def _content(tallies: dict[Path, Tally], main: Tally, log: list[Finished]) -> dict[str, Any]:
    outcomes = [(name, n) for (name,), n in main.count("outcome").most_common(MOST_LINES)]
    return {
        "main": main,
        "n_bytes": sum(each.tar_bytes for each in tallies.values()),
        "sets": [_set(*item) for item in tallies.items()],
        "span": _span,
        "outcomes": [
            Bar(name=name, value=n, text=f"{number(n)} ({n / main.planned:.1%})")
            for name, n in outcomes
        ],
        "seconds": _seconds(main),
        "failures": [(name, n, main.messages(name)) for name, n in outcomes if name != OK],
        "meanings": meanings(),
        "sources": list(_sources(main)),
        "speed": _speed(log) if log else None,
        "nodes": _nodes(log),
        "histograms": _histograms(next(iter(tallies.values()))),
        "cards": list(_cards([item for item in tallies.items() if len(item[1].present)])),
        "n_samples": N_SAMPLES,
    }


def _seconds(main: Tally) -> list[tuple[str, float, str]]:
    """Return what became of the sound that came in: outcome, seconds, clips of unknown length."""
    refused = main.refused
    rows = [
        ("in", main.came_in_s, sum(n for *_, n in refused)),
        ("stored", main.stored_s, 0),
        *refused,
    ]
    return [(outcome, round(seconds, 2), number(n) if n else "") for outcome, seconds, n in rows]


def _set(folder: Path, each: Tally) -> tuple[str | int, ...]:
    values = f"{each.values.mean:z.4f} ± {each.values.std:.4f}"
    length, size = _span(each.durations.sum()), do_filesizeformat(each.tar_bytes)
    fingerprint = each.fingerprint if len(each.present) else "no clip"
    return folder.name, len(each.summaries), len(each.present), length, size, values, fingerprint


def _sources(main: Tally) -> Iterator[tuple[tuple[str, ...], list[tuple], str]]:
    """Yield the outcomes of each source, and of each identity: names, rows, caption."""
    kinds: dict[tuple[str, ...], tuple[str, ...]] = {
        ("source", "made with"): ("source", "source_version")
    }
    if len(main.count("identity")) > 1:
        kinds[("identity",)] = ("identity",)
    for names, columns in kinds.items():
        outcomes: dict[tuple[str, ...], Counter[str]] = {}
        for (*key, outcome), n in main.count(*columns, "outcome").items():
            outcomes.setdefault(tuple(key), Counter())[outcome] = n
        ranked = sorted(outcomes.items(), key=lambda item: (-item[1].total(), item[0]))
        caption = f"the {MOST_LINES} largest of {len(ranked)}" if len(ranked) > MOST_LINES else ""
        yield names, [_source(*each) for each in ranked[:MOST_LINES]], caption


def _source(key: Sequence[str], counts: Counter[str]) -> tuple[str | float, ...]:
    total, lost = counts.total(), counts.total() - counts[OK]
    reasons = (f"{name} {number(n)}" for name, n in counts.most_common() if name != OK)
    names = (name or "none needed" for name in key)
    return *names, total, counts[OK], lost, round(100 * lost / total, 1), ", ".join(reasons)


def _speed(log: list[Finished]) -> Plot:
    speed, clips = throughput(log), sum(shard.clips for shard in log)
    per, unit = _time_unit(speed.work_s)
    text = f"{number(clips)} clips tried in {_span(speed.work_s)} of work: "
    text += f"{number(clips / speed.work_s)} clips/s on average."
    if speed.pauses:
        text += f" Pauses longer than 5 minutes are left out: {speed.pauses}."
    x, y = np.r_[0, speed.at_s, speed.work_s] / per, speed.clips_per_s
    return line_chart(x, np.r_[y[0], y, y[-1]], f"time at work, {unit}", "clips/s", text)


def _nodes(log: list[Finished]) -> list[tuple[str, int, int, float]]:
    rows = []
    for node in sorted({shard.node for shard in log})[:MOST_LINES]:
        own = [shard for shard in log if shard.node == node]
        clips, seconds = sum(shard.clips for shard in own), sum(shard.seconds for shard in own)
        rows.append((node, len(own), clips, round(clips / seconds, 2)))
    return rows


def _time_unit(seconds: float) -> tuple[float, str]:
    for per, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * per:
            return per, unit
    return 1.0, "s"


def _span(seconds: float) -> str:
    per, unit = _time_unit(seconds)
    return f"{seconds / per:,.1f} {unit}"


def _histograms(each: Tally) -> list[Plot]:
    wave = each.form.kind == "wave"
    name = "RMS level, dB of full scale" if wave else "mean log-mel, natural log of power"
    plots = []
    for values, label, start, unit in (
        (each.durations, "duration, s", 0.0, " s"),
        (each.levels, name, None, " dBFS" if wave else ""),
    ):
        if len(values):
            low, middle, high = (f"{part:.3g}" for part in np.quantile(values, (0.25, 0.5, 0.75)))
            text = f"Median {middle}{unit}; half of the clips are from {low} to {high}{unit}."
            plots.append(histogram(values, label, text, start))
    return plots


def _cards(sets: list[tuple[Path, Tally]]) -> Iterator[Card]:
    """Yield the cards of some clips, which the first set's fingerprint selects."""
    if not sets:
        return
    tally = sets[0][1]
    first = np.cumsum([0, *(summary.n_ok for summary in tally.summaries.values())])
    rng = np.random.default_rng(int(tally.fingerprint, 16))
    clips = np.sort(rng.permutation(first[-1])[:N_SAMPLES])
    shards = np.searchsorted(first, clips, side="right") - 1
    sidecars = [*tally.summaries]
    for clip, shard in zip(clips, shards, strict=True):
        sidecar = sidecars[shard]
        row = list(_rows(tally, sidecar).values())[clip - first[shard]]
        found = {
            each.form.kind: _read(each, folder / sidecar.name, row.key) for folder, each in sets
        }
        yield Card(
            title=row.key,
            lines=[", ".join(row.labels) or "no labels", _origin(row)],
            notes=[f"not in the {kind} set" for kind, array in found.items() if array is None],
            samples=found.get("wave"),
            log_mel=found.get("logmel"),
            frames_per_s=sets[-1][1].form.frames_per_s,
        )


def _rows(tally: Tally, sidecar: Path) -> dict[str, Row]:
    """Return the rows of the clips in a shard, by key, in their order; none if the set lacks it."""
    if sidecar not in tally.summaries:
        return {}
    return {row.key: row for row in read_rows(sidecar) if row.offset is not None}


def _read(tally: Tally, sidecar: Path, key: str) -> np.ndarray | None:
    """Return the start of a clip; None if the set lacks it."""
    row, form = _rows(tally, sidecar).get(key), tally.form
    if row is None or row.n_frames is None:
        return None
    short = replace(row, n_frames=min(row.n_frames, round(LONGEST_S * form.frames_per_s)))
    tar_path = sidecar.with_suffix(".tar")
    if not tar_path.exists():
        raise UserError(f"{tar_path} is missing; run `abt shards verify {sidecar.parent}`")
    with reaching(tar_path), tar_path.open("rb") as tar:
        return read_clip(tar, short, form)


def _origin(row: Row) -> str:
    span = "" if row.start_s is None else f", {row.start_s:.2f} to {row.end_s or 0:.2f} s"
    if (row.end_s or 0) - (row.start_s or 0) > LONGEST_S:
        span += f", the first {LONGEST_S:g} s of it"
    return f"{row.origin}{span} ({row.source})"
