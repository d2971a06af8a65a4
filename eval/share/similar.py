"""The sounds nearest to a clip by the cosine of their embeddings, which are cached."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from audio_barlow_twins.model.embedder import Embedder, checkpoint_facts, frozen, read_checkpoint
from audio_barlow_twins.shards.base.cli import Positional, arg, say
from audio_barlow_twins.shards.base.errors import UserError, first_line
from audio_barlow_twins.shards.base.files import replacing
from audio_barlow_twins.shards.decode.files import shown
from audio_barlow_twins.shards.html.card import Card, card_of, sound_page
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel

from ..embed.files import Failed, embed_files
from ..sound.audio import AudioError, find_audio, read_audio, require_there

log = logging.getLogger(__name__)

CLAIM = "checkpoint_sha256"
"""Key of a Parquet file's metadata that identifies the model of its embeddings."""
PLAYED_S = 20
"""Start of each sound that a page plays, s."""
Known = dict[str, tuple[tuple[int, int], np.ndarray]]
"""Size and mtime (ns), and embedding, float32 [D], of files; see `known_as`."""


@dataclass(frozen=True, kw_only=True)
class Similar:
    """List the sounds whose embeddings are nearest to a clip's, by cosine."""

    clip: Positional[Path]
    """Sound file to compare with."""
    collection: Annotated[Path, arg(name="in")]
    """Folder of sound files, or a Parquet file that `abt eval embed` wrote."""
    checkpoint: Path
    """Checkpoint that `abt train` wrote."""
    k: int = 10
    """How many sounds to list."""
    cache: Path | None = None
    """Parquet file that keeps embeddings; by default beside the checkpoint."""
    html: Path | None = None
    """Also write a page with players to this file."""
    device: str | None = None
    """Where to compute, such as cpu or cuda:1; by default a GPU if there is one."""

    @property
    def cache_file(self) -> Path:
        return self.cache or self.checkpoint.with_name(self.checkpoint.name + ".similar.parquet")

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"--k is {self.k}; ask for at least one sound")

    def run(self) -> None:
        require_there(self.clip)
        checkpoint = read_checkpoint(self.checkpoint)
        claim = checkpoint_facts(self.checkpoint, checkpoint)[CLAIM]

        def load() -> Embedder:
            return frozen(checkpoint, self.device)

        if self.collection.is_dir():
            files = find_audio([self.collection])
            known = embedded_once([self.clip, *files], self.cache_file, claim, load)
            others = [(file, known[at]) for file in files if (at := known_as(file)) in known]
        else:
            known = embedded_once([self.clip], self.cache_file, claim, load)
            others = read_table(self.collection, claim)
        clip = known_as(self.clip)
        if clip not in known:
            raise AudioError(f"{shown(self.clip)}: cannot be used, see above; name another clip")
        nearest = rank(known[clip], [pair for pair in others if known_as(pair[0]) != clip], self.k)
        say("cosine  file")
        for file, cosine in nearest:
            say(f"{cosine:6.4f}  {shown(file)}")
        if self.html:
            front_end = FrontEnd.from_parameters(checkpoint.front_end)
            text = listening_page(self.clip, nearest, front_end, self.collection)
            with replacing(self.html) as scratch:
                scratch.write_text(text, encoding="utf-8")
            log.info("page written to %s", self.html)


def rank(
    query: np.ndarray, others: Sequence[tuple[Path, np.ndarray]], k: int
) -> list[tuple[Path, float]]:
    """List the k files whose embeddings have the largest cosine with a query, largest first.

    Embeddings are float32 [D]. Files with equal cosines keep their order.
    """
    if not others:
        raise UserError("there is no other sound to compare with; name a larger collection")
    matrix = np.stack([embedding for _, embedding in others])
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
    cosines = (matrix @ query) / np.maximum(lengths, np.finfo(np.float32).tiny)
    best = np.argsort(-cosines, kind="stable")[:k]
    return [(others[i][0], float(cosines[i])) for i in best]


def listening_page(
    clip: Path, nearest: Iterable[tuple[Path, float]], front_end: FrontEnd, folder: Path
) -> str:
    """Return an HTML page with a card for a clip and for each file with its cosine.

    Spectrograms are made with the model's front-end; files below `folder` have relative names.
    """
    log_mel = LogMel(front_end)
    looked_for = _card(shown(clip.name), shown(clip.parent), clip, log_mel)
    cards = []
    for file, cosine in nearest:
        seen = file.relative_to(folder) if file.is_relative_to(folder) else file
        cards.append(_card(shown(seen), f"cosine {cosine:.4f}", file, log_mel))
    groups = [("Looked for", "", [looked_for]), ("Nearest first", "", cards)]
    return sound_page("Similar sounds", f"{shown(clip.name)} among {shown(folder)}", groups)


def _card(title: str, about: str, file: Path, log_mel: LogMel) -> Card:
    """Make a card for a sound, with a note if the file has been removed since it was embedded."""
    rate = log_mel.front_end.sample_rate
    try:
        return card_of(title, about, read_audio(file, rate)[: PLAYED_S * rate], log_mel)
    except AudioError as error:
        return Card(title=title, lines=[about], notes=[str(error)])


def embedded_once(
    files: Sequence[Path], cache: Path, claim: str, load: Callable[[], Embedder]
) -> dict[str, np.ndarray]:
    """Return embeddings from a cache, after embedding files that are new or have changed.

    Args:
        files: sound files; those that cannot be used are logged and left out.
        cache: Parquet file; replaced if it is of another model. An interrupted call adds what it
            has embedded.
        claim: identifies the model.
        load: returns the model; called if there is something to embed.

    Returns:
        Embeddings, float32 [D]; see `known_as`.
    """
    named = {known_as(file): file for file in files}
    states = {at: _state(file) for at, file in named.items()}
    known = _read_cache(cache, claim)
    lacking = {
        at: file for at, file in named.items() if at not in known or known[at][0] != states[at]
    }
    log.info("%d files, %d to embed", len(states), len(lacking))
    for at in lacking:
        known.pop(at, None)
    if lacking:
        try:
            with tqdm(total=len(lacking), desc="embedding", unit="file", disable=None) as bar:
                for row in embed_files(lacking.values(), load(), _leave_out):
                    at = known_as(row.file)
                    known[at] = states[at], row.embedding
                    bar.update()
        finally:
            _write_cache(cache, claim, known)
    return {at: known[at][1] for at in states if at in known}


def known_as(file: Path) -> str:
    """Return the name of a file in a cache: its resolved path as it is shown."""
    return shown(os.path.realpath(file))  # a link to itself, too, has a name


def _leave_out(bad: Failed) -> None:
    log.warning("%s: left out: %s", shown(bad.file), bad.reason)


def _state(file: Path) -> tuple[int, int]:
    """Return size and mtime (ns); with another size or mtime, a cached embedding is stale.

    Both are 0 of what cannot be reached; reading it says why.
    """
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _read_cache(cache: Path, claim: str) -> Known:
    """Read a cache; return nothing if it is of another model."""
    if not cache.is_file():
        return {}
    stored = _read_parquet(cache)
    if _claim_of(stored) != claim:
        return {}
    columns = [stored[name].to_pylist() for name in ("file", "size", "mtime_ns")]
    return {
        file: ((size, mtime_ns), embedding)
        for file, size, mtime_ns, embedding in zip(*columns, _embeddings(stored), strict=True)
    }


def _write_cache(cache: Path, claim: str, known: Known) -> None:
    if not known:
        return
    embeddings = np.stack([embedding for _, embedding in known.values()])
    columns = {
        "file": pa.array(list(known)),
        "size": pa.array([size for (size, _), _ in known.values()]),
        "mtime_ns": pa.array([mtime_ns for (_, mtime_ns), _ in known.values()]),
        "embedding": pa.FixedSizeListArray.from_arrays(embeddings.ravel(), embeddings.shape[1]),
    }
    try:
        with replacing(cache) as scratch:
            pq.write_table(pa.table(columns, metadata={CLAIM: claim}), scratch)
    except OSError as error:
        raise UserError(
            f"{cache}: cannot be written: {error.strerror or error}; name another with --cache"
        ) from error


def read_table(file: Path, claim: str) -> list[tuple[Path, np.ndarray]]:
    """Read a table that `abt eval embed` wrote with the model that `claim` identifies.

    Raises:
        UserError: the file is missing, of another format, or of another model.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such folder or file; name sounds, or what `embed` wrote")
    stored = _read_parquet(file)
    if (found := _claim_of(stored)) != claim:
        raise UserError(
            f"{file}: holds embeddings of checkpoint {found[:12] or 'unknown'}…, wanted "
            f"{claim[:12]}…; embed the files again"
        )
    return list(zip(map(Path, stored["file"].to_pylist()), _embeddings(stored), strict=True))


def _read_parquet(file: Path) -> pa.Table:
    try:
        stored = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        reason = first_line(error)
        raise UserError(f"{file}: cannot be read as Parquet: {reason}") from error
    if not {"file", "embedding"} <= set(stored.column_names):
        raise UserError(f"{file}: has no columns file and embedding; name what `embed` wrote")
    return stored


def _claim_of(stored: pa.Table) -> str:
    metadata: Mapping[bytes, bytes] = stored.schema.metadata or {}
    return metadata.get(CLAIM.encode(), b"").decode()


def _embeddings(stored: pa.Table) -> np.ndarray:
    column = stored["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)
