"""How long the recordings of a source are."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from audio_barlow_twins.shards.decode.cut import DecodeLimits
from audio_barlow_twins.shards.decode.reading import Length
from audio_barlow_twins.shards.decode.sound import duration_of

from ..sources.clip import Clip
from ..sources.source import LONGEST_S
from .measured import Quantity, measured


def durations(
    clips: Sequence[Clip],
    out: Path,
    limits: DecodeLimits,
    planned: bool = False,
    threads: int = 0,
) -> list[Length | None]:
    """Return the length of each recording; None of one that cannot be measured.

    Args:
        limits: bounds on a file; the length has none.

    See `measured` for the others, and for what is raised.
    """
    lengths = Quantity(
        file="durations.parquet",
        words=("measure", "lengths"),
        kind=Length,
        columns=(pa.field("seconds", pa.float64()), pa.field("rest", pa.string())),
        measure=lambda path: duration_of(path, limits, LONGEST_S - 1),
    )
    return measured(lengths, clips, out, planned, threads)
