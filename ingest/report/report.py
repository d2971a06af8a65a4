"""The page that a run leaves behind: what is there, what is missing and why, how it sounds."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from audio_barlow_twins.shards.base.errors import ClipError, UserError
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.base.place import reaching
from audio_barlow_twins.shards.html.page import (
    Html,
    bars,
    element,
    histogram,
    join,
    line_chart,
    number,
    page,
    player,
    spectrogram,
    table,
    tiles,
)
from audio_barlow_twins.shards.stored.shardset import ShardSet, open_shards, sidecar_paths
from audio_barlow_twins.shards.stored.sidecar import Row, read_clip, read_rows

from .tally import OK, Message, Tally, tally
from .throughput import Finished, read_log, throughput

N_SAMPLES = 8
"""Clips to listen to."""
LONGEST_S = 10.0
"""What is played and drawn of one clip; eight such clips keep the page below 4 MB."""
MOST_CHARACTERS = 300
MOST_LINES = 30
N_MESSAGES = 5


def write_report(out: Path) -> Path:
    """Write OUT/ingest.html from the sidecars and ingest.jsonl below OUT; return its path.

    Raises:
        UserError: there is no finished shard, or one is damaged.
    """
    tallies = {
        out / kind: tally(paths) for kind in ("wave", "logmel") if (paths := _find(out / kind))
    }
    if not tallies:
        raise UserError(f"{out} holds neither wave nor logmel shards; run the ingest first")
    sets = {folder: open_shards(folder) for folder, each in tallies.items() if each.ok}
    main = max(tallies.values(), key=lambda each: each.planned)
    log = list(read_log(out / "ingest.jsonl")) if (out / "ingest.jsonl").exists() else []
    sections = [
        ("", _headline(main, tallies, sets)),
        ("Outcomes", _outcomes(main)),
        ("Sources", _sources(main)),
        ("Speed", _speed(log)),
        ("Length and loudness", _sound(list(tallies.values()))),
        (f"{N_SAMPLES} clips drawn at random", _samples(out, sets)),
    ]
    target = out / "ingest.html"
    with replacing(target) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(page("Ingest report", sections, subtitle=out.name))
    return target


def _find(folder: Path) -> list[Path]:
    try:
        return sidecar_paths(folder)
    except UserError:  # the set is not there: a run without waves, or one that has only begun
        return []


def _headline(main: Tally, tallies: dict[Path, Tally], sets: dict[Path, ShardSet]) -> Html:
    failed = main.planned - main.ok
    rows = [
        (
            folder.name, each.shards, each.ok, _span(3600 * each.hours), _size(each.tar_bytes),
            f"{each.values.mean:z.4f} ± {each.values.std:.4f}",
            element("code", sets[folder].fingerprint if folder in sets else "no clip"),
        )
        for folder, each in tallies.items()
    ]  # fmt: skip
    return join(
        tiles(
            [
                ("clips planned", number(main.planned)),
                ("ok", number(main.ok)),
                ("failed", f"{number(failed)} ({failed / max(main.planned, 1):.1%})"),
                ("sound", _span(3600 * main.hours)),
                ("on disk", _size(sum(each.tar_bytes for each in tallies.values()))),
            ]
        ),
        table(rows, ("set", "shards", "clips", "sound", "size", "mean ± deviation", "fingerprint")),
    )


def _outcomes(main: Tally) -> Html:
    parts = [bars(main.by(3).most_common(MOST_LINES), total=main.planned)]
    for name, n in main.by(3).most_common(MOST_LINES):
        if name != OK:
            found = main.messages[name].items()
            first = sorted(found, key=lambda item: (-item[1].clips, item[0]))[:N_MESSAGES]
            parts.append(element("h3", f"{_short(name)}: {number(n)}"))
            if meaning := _meanings().get(name):
                parts.append(element("p", meaning, class_="quiet"))
            parts.append(_messages(first, len(found)))
    return join(*parts)


def _messages(first: Sequence[tuple[str, Message]], n_different: int) -> Html:
    rows = [
        (message.clips, _short(text), element("code", _short(message.key)))
        for text, message in first
    ]
    caption = f"the {len(first)} most frequent messages" if n_different > len(first) else ""
    return table(rows, ("clips", "message", "for example"), caption)


def _meanings() -> dict[str, str]:
    """Say in a line what each class of failure means, from where the classes are defined."""
    classes, found = [ClipError], {}
    while classes:
        for each in classes.pop().__subclasses__():
            classes.append(each)
            if slug := getattr(each, "slug", ""):
                found[slug] = (each.__doc__ or "").split("\n")[0]
    return found


def _sources(main: Tally) -> Html:
    parts = [_cross_table(main, (0, 1), ("source", "made with"))]
    if len(main.by(2)) > 1:
        parts.append(_cross_table(main, (2,), ("identity",)))
    return join(*parts)


def _cross_table(main: Tally, places: tuple[int, ...], names: tuple[str, ...]) -> Html:
    """List how the clips of each source or identity came out."""
    outcomes: dict[tuple[str, ...], Counter[str]] = {}
    for (*who, outcome), n in main.by(*places, 3).items():
        outcomes.setdefault(tuple(who), Counter())[outcome] += n
    ranked = sorted(outcomes.items(), key=lambda item: (-item[1].total(), item[0]))
    rows: list[tuple[str | float, ...]] = []
    for who, counts in ranked[:MOST_LINES]:
        total, lost = counts.total(), counts.total() - counts[OK]
        reasons = [f"{name} {number(n)}" for name, n in counts.most_common() if name != OK]
        shown = [_short(name) or "none needed" for name in who]
        why = _short(", ".join(reasons))
        rows.append((*shown, total, counts[OK], lost, round(100 * lost / total, 1), why))
    caption = f"the {MOST_LINES} largest of {len(ranked)}" if len(ranked) > MOST_LINES else ""
    return table(rows, (*names, "planned", "ok", "failed", "failed, %", "because"), caption)


def _speed(log: list[Finished]) -> Html:
    if not log:
        return element("p", "There is no ingest.jsonl, so nothing is known of the speed.")
    speed, clips = throughput(log), sum(shard.clips for shard in log)
    per, unit = _time_unit(speed.work_s)
    average = f"{_brief(clips / speed.work_s)} clips/s on average"
    text = f"{number(clips)} clips tried in {_span(speed.work_s)} of work: {average}."
    if speed.pauses:
        text += f" Pauses longer than 5 minutes are left out: {speed.pauses}."
    x, y = np.r_[0, speed.at_s, speed.work_s] / per, speed.clips_per_s
    y = np.r_[y[0], y, y[-1]]
    chart = line_chart(x.tolist(), y.tolist(), f"time at work, {unit}", "clips/s", text)
    return join(chart, element("p", text, class_="quiet"), _nodes(log))


def _nodes(log: list[Finished]) -> Html:
    nodes = sorted({shard.node for shard in log})
    if len(nodes) < 2:
        return Html("")
    rows = []
    for node in nodes[:MOST_LINES]:
        own = [shard for shard in log if shard.node == node]
        clips, seconds = sum(shard.clips for shard in own), sum(shard.seconds for shard in own)
        rows.append((_short(node), len(own), clips, round(clips / seconds, 2)))
    return table(rows, ("node", "shards", "clips", "clips/s of one worker"))


def _time_unit(seconds: float) -> tuple[float, str]:
    for per, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * per:
            return per, unit
    return 1.0, "s"


def _span(seconds: float) -> str:
    """Write a time for people."""
    per, unit = _time_unit(seconds)
    return f"{_brief(seconds / per)} {unit}"


def _brief(value: float) -> str:
    """Write three digits, or more of a large number."""
    return number(value) if value >= 1000 else f"{value:.3g}"


def _sound(tallies: list[Tally]) -> Html:
    """Draw durations and loudness; the first tally is that of the waves, if there are any."""
    each = tallies[0]
    if not each.ok:
        return element("p", "No clip is there.")
    wave = each.form.kind == "wave"
    name = "RMS level, dB of full scale" if wave else "mean log-mel, natural log of power"
    charts = []
    for bins, label, low, unit in (
        (each.lengths, "duration, s", 0.0, " s"),
        (each.levels, name, None, " dBFS" if wave else ""),
    ):
        edges, counts = bins.histogram(low=low)
        low_half, middle, high_half = (f"{bins.quantile(part):.3g}" for part in (0.25, 0.5, 0.75))
        text = f"Median {middle}{unit}; half of the clips lie from {low_half} to {high_half}{unit}."
        chart = histogram(edges, counts, label, alt=f"{label}: {text}")
        charts.append(element("div", chart, element("p", text, class_="quiet")))
    return element("div", *charts, class_="plots")


def _samples(out: Path, sets: dict[Path, ShardSet]) -> Html:
    """Draw clips by the fingerprint of the first set, so that a set always shows the same."""
    if not sets:
        return element("p", "No clip is there.")
    drawn_from = next(iter(sets.values()))
    rng = np.random.default_rng(int(drawn_from.fingerprint, 16))
    clips = np.sort(rng.permutation(len(drawn_from))[:N_SAMPLES])
    cards = []
    for clip, shard in zip(clips, drawn_from.shard_of(clips), strict=True):
        name = drawn_from.names[shard]
        there = [row for row in read_rows(drawn_from.folder / f"{name}.parquet") if _is_there(row)]
        row = there[clip - drawn_from.first[shard]]
        arrays: dict[str, np.ndarray] = {
            each.form.kind: found for each in sets.values() for found in _load(each, name, row)
        }
        cards.append(_card(row, sets, arrays))
    return element("div", *cards, class_="plots")


def _is_there(row: Row) -> bool:
    return row.offset is not None


def _load(shard_set: ShardSet, name: str, wanted: Row) -> Iterator[np.ndarray]:
    """Yield the beginning of one clip, or nothing if this set lacks it."""
    if name not in shard_set.names:
        return
    for row in read_rows(shard_set.folder / f"{name}.parquet"):
        if row.key == wanted.key and row.n_frames is not None:
            most = round(LONGEST_S * shard_set.form.frames_per_s)
            short = replace(row, n_frames=min(row.n_frames, most))
            tar_path = shard_set.folder / f"{name}.tar"
            if not tar_path.exists():
                raise UserError(
                    f"{tar_path} is missing; run `abt shards verify {shard_set.folder}`"
                )
            with reaching(tar_path), tar_path.open("rb") as tar:
                yield read_clip(tar, short, shard_set.form)


def _card(row: Row, sets: dict[Path, ShardSet], arrays: dict[str, np.ndarray]) -> Html:
    labels = ", ".join(row.labels) or "no labels"
    span = "" if row.start_s is None else f", {row.start_s:.2f} to {row.end_s or 0:.2f} s"
    if (row.end_s or 0) - (row.start_s or 0) > LONGEST_S:
        span += f", the first {LONGEST_S:g} s of it"
    caption = element(
        "figcaption",
        element("b", _short(row.key)),
        element("span", _short(labels)),
        Html("<br>"),
        element("span", f"{_short(row.origin)}{span} ({_short(row.source)})"),
    )
    parts = [caption]
    for each in sets.values():
        array = arrays.get(each.form.kind)
        if array is None:
            parts.append(element("p", f"not in the {each.form.kind} set", class_="quiet"))
        elif each.form.kind == "wave":
            rate = int(each.form.frames_per_s)
            parts.append(player(array, rate, f"Play {_short(row.key)}"))
        else:
            seconds = len(array) / each.form.frames_per_s
            parts.append(spectrogram(array, seconds, f"Log-mel spectrogram of {_short(row.key)}"))
    return element("figure", *parts)


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _size(n_bytes: int) -> str:
    """Write a size for people, in powers of 1000."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB")):
        if n_bytes >= 1000**power:
            return f"{n_bytes / 1000**power:.3g} {unit}"
    return f"{n_bytes / 1000:.3g} kB"
