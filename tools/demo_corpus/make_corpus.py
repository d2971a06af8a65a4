"""Make the demo corpus: `python tools/demo_corpus/make_corpus.py WORKDIR`.

Runs on Debian or Ubuntu, with a network. Fetches three packages by name into WORKDIR unless they
are there, takes the sounds that are free, encodes them to Opus and writes audio/, clips.csv and
SOURCES.md into `ingest/sources/demo`.
"""

import argparse
import csv
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from catalogue import FOLDS, Clip, assign_folds, class_of, join_recordings

from audio_barlow_twins.shards.decode.ffmpeg import ffmpeg_path

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "ingest" / "sources" / "demo"
COLUMNS = ("path", "labels", "split", "recording", "author", "source", "licence")
BITRATE = "64k"
CUTOFF_HZ = 12_000
"""Opus's superwideband: every bit goes to the band that speech and audio models look at."""
LOWERED_DB = (2, 4, 6, 8)
SHORTEST_S = 0.064
"""One window of the log-mel front-end (1024 samples at 16 kHz)."""
# The drum break of a record that is in copyright: an uploader's CC0 does not free it.
NOT_FREE = frozenset({"loop_amen", "loop_amen_full"})


class BuildError(RuntimeError):
    """A tool or a piece of the material is missing."""


def run(*command: str | Path, cwd: Path | None = None) -> bytes:
    """Run a command and return its output; raise BuildError if it is not installed or fails."""
    try:
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is not installed; run this on Debian or Ubuntu") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()[-300:]
        raise BuildError(f"{' '.join(map(str, command))} failed: {reason}") from None


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg quietly and return its output."""
    return run(ffmpeg_path(), "-nostdin", "-v", "error", "-y", *arguments)


def fetch_debian(package: str, workdir: Path) -> Path:
    """Download a Debian package if it is not in workdir yet, and unpack it."""
    if not list(workdir.glob(f"{package}_*.deb")):
        run("apt-get", "download", package, cwd=workdir)
    unpacked = workdir / package
    run("dpkg-deb", "-x", max(workdir.glob(f"{package}_*.deb")), unpacked)
    return unpacked


def fetch_wheel(package: str, workdir: Path) -> Path:
    """Download a Python wheel if it is not in workdir yet, and unpack it."""
    if not list(workdir.glob(f"{package}-*.whl")):
        run(sys.executable, "-m", "pip", "download", "--no-deps", "-d", workdir, package)
    unpacked = workdir / package
    with zipfile.ZipFile(max(workdir.glob(f"{package}-*.whl"))) as archive:
        archive.extractall(unpacked)
    return unpacked


def licences_of_dep5(text: str) -> dict[str, str]:
    """Read a DEP-5 copyright file: each path that has a paragraph of its own, and its licence."""
    licences: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, list[str]] = defaultdict(list)
        name = ""
        for line in paragraph.splitlines():
            field = re.match(r"([A-Za-z-]+):(?:\s+|$)(.*)", line)
            name, value = field.groups() if field else (name, line)
            fields[name].append(value.strip())
        for path in " ".join(fields["Files"]).split():
            licences[path] = " ".join(fields["License"][:1])
    return licences


def sonic_pi(workdir: Path) -> Iterator[tuple[Path, Clip]]:
    """Yield Sonic Pi's samples; their README names the source of each and says all are CC0."""
    root = fetch_debian("sonic-pi-samples", workdir)
    folder = root / "usr/share/sonic-pi/samples"
    readme = (folder / "README.md").read_text()
    if "public domain via the Creative Commons 0 License" not in " ".join(readme.split()):
        raise BuildError("the samples' README no longer says that they are CC0; check by hand")
    copyright_file = root / "usr/share/doc/sonic-pi-samples/copyright"
    licences = licences_of_dep5(copyright_file.read_text())
    links = re.findall(r"`:(\w+)`\s*- https?://(?:www\.)?(freesound\.org/people/\S+)", readme)
    sources = {name.replace("_", ""): f"https://{link}" for name, link in links}
    for path in sorted(folder.glob("*.flac")):
        licence = licences.get(f"etc/samples/{path.name}", "CC0")
        if licence != "CC0" or path.stem in NOT_FREE:
            continue
        source = sources[path.stem.replace("_", "")]
        user, number = source.split("/people/")[1].strip("/").split("/sounds/")
        clip = Clip(
            stem=path.stem,
            label=class_of(path.stem),
            recording=f"freesound_{number}",
            author=unquote(user),
            source=source,
            licence="CC0",
        )
        yield path, clip


def arcade(workdir: Path) -> Iterator[tuple[Path, Clip]]:
    """Yield the game sounds of the arcade package, whose licence text says CC0 for all of them."""
    folder = fetch_wheel("arcade", workdir) / "arcade/resources/assets/sounds"
    if "Everything in this package is licensed CC0" not in (folder / "License.txt").read_text():
        raise BuildError("arcade's sounds no longer say that they are CC0; check by hand")
    for path in sorted(folder.glob("*.wav")):
        stem = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.stem).lower()
        clip = Clip(
            stem=stem,
            label=class_of(stem),
            recording=f"arcade_{stem}",
            author="Kenney",
            source="https://kenney.nl/",
            licence="CC0",
        )
        yield path, clip


def speech(workdir: Path) -> Iterator[tuple[Path, Clip]]:
    """Yield five sentences of one chapter read for LibriVox."""
    root = fetch_debian("pocketsphinx-testdata", workdir)
    folder = root / "usr/share/pocketsphinx/test/data/librivox"
    for path in sorted(folder.glob("sense_and_sensibility_01_austen_64kb-*.wav")):
        stem = f"speech_{path.stem.rsplit('-', 1)[1]}"
        clip = Clip(
            stem=stem,
            label=class_of(stem),
            recording="librivox_sense_and_sensibility_01",
            author="LibriVox volunteer",
            source="https://librivox.org/pages/public-domain/",
            licence="public domain",
        )
        yield path, clip


def encode(source: Path, target: Path) -> float:
    """Encode one sound as mono Opus, the same bytes every time; return its length in seconds.

    The codec overshoots loud transients, so the sound is lowered until it decodes below full scale.
    """
    exact = ("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact")
    opus = ("-ar", "48000", "-c:a", "libopus", "-b:a", BITRATE, "-cutoff", str(CUTOFF_HZ))
    for lowered_db in LOWERED_DB:
        mono = f"aformat=channel_layouts=mono,volume=-{lowered_db}dB"
        ffmpeg("-i", source, "-map", "0:a:0", "-af", mono, *exact, *opus, target)
        decoded = ffmpeg("-i", target, "-f", "f32le", "-ar", "48000", "-")
        wave = np.frombuffer(decoded, dtype="<f4")
        if np.abs(wave).max() < 1:
            return len(wave) / 48000
    raise BuildError(f"{source.name} decodes above full scale even {lowered_db} dB down")


def build(workdir: Path) -> None:
    """Make audio/, clips.csv and SOURCES.md; nothing committed changes before all is encoded."""
    workdir.mkdir(parents=True, exist_ok=True)
    audio = workdir / "audio"
    shutil.rmtree(audio, ignore_errors=True)
    kept: list[Clip] = []
    total_s = 0.0
    for path, clip in (*sonic_pi(workdir), *arcade(workdir), *speech(workdir)):
        target = audio / clip.path
        target.parent.mkdir(parents=True, exist_ok=True)
        duration_s = encode(path, target)
        if duration_s < SHORTEST_S:
            target.unlink()
            continue
        kept.append(clip)
        total_s += duration_s
    clips = assign_folds(join_recordings(kept))
    packages = sorted(path.name for path in (*workdir.glob("*.deb"), *workdir.glob("*.whl")))
    shutil.rmtree(DEMO / "audio", ignore_errors=True)
    shutil.copytree(audio, DEMO / "audio")
    write_clips(DEMO / "clips.csv", clips)
    (DEMO / "SOURCES.md").write_text(sources_page(clips, total_s / 60, packages))


def write_clips(path: Path, clips: list[Clip]) -> None:
    """Write one row per clip."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for clip in clips:
            row = (clip.path, clip.label, clip.split, clip.recording)
            writer.writerow((*row, clip.author, clip.source, clip.licence))


def sources_page(clips: list[Clip], minutes: float, packages: list[str]) -> str:
    """Fill sources.md.in: the introduction, the classes, and one line per file."""
    counts = Counter(clip.label for clip in clips)
    task = {clip.label for clip in clips if clip.split}
    recordings = {label: {c.recording for c in clips if c.label == label} for label in counts}
    classes = (
        f"| {label} | {counts[label]} | {len(recordings[label])} | "
        f"{'yes' if label in task else 'no'} |"
        for label in sorted(counts)
    )
    files = (f"| {c.path} | {c.author} | <{c.source}> | {c.licence} |" for c in clips)
    template = (HERE / "sources.md.in").read_text()
    return template.format(
        n_clips=len(clips),
        minutes=f"{minutes:.1f}",
        n_folds=len(FOLDS),
        n_classes=len(task),
        n_task=sum(bool(clip.split) for clip in clips),
        packages=",\n".join(f"`{name}`" for name in packages),
        lowered=f"{LOWERED_DB[0]} to {LOWERED_DB[-1]}",
        cutoff=f"{CUTOFF_HZ / 1000:g}",
        bitrate=BITRATE.removesuffix("k"),
        shortest=f"{SHORTEST_S * 1000:g}",
        classes="\n".join(classes),
        files="\n".join(files),
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="make_corpus.py")
    parser.add_argument("workdir", type=Path, help="folder for downloads and scratch files")
    try:
        build(parser.parse_args().workdir.resolve())
    except BuildError as error:
        sys.exit(f"demo corpus: {error}")


if __name__ == "__main__":
    main()
