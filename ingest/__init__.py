"""Audio in, shard sets out.

    sources ─▶ Clip, Clip, … ─▶ stage.plan ─▶ one task a shard, on Ray
                                                 │ take: decode a file, cut a part out of an
                                                 │ archive, or get a video (video/: governor,
                                                 │ identities, yt-dlp in a process of its own)
                                                 ▼
                            wave and log-mel shards ─▶ report: ingest.html, each minute

A clip that fails is a row of the sidecar with the class of its failure (errors.py draws the
classes); `retry` tries it again, `status` sums up, `diff` compares two sets.
"""

from typing import TYPE_CHECKING

from audio_barlow_twins.lazy import lazily

if TYPE_CHECKING:
    from .sources.clip import Clip as Clip
    from .sources.clip import clip_keys as clip_keys
    from .sources.folder import folder_clips as folder_clips
    from .stage.ledger import read_ledger as read_ledger
    from .stage.plan import Plan as Plan
    from .stage.stage import Job as Job
    from .stage.stage import ingest as ingest

__all__, __getattr__ = lazily(
    __name__,
    {
        "Clip": ".sources.clip",
        "Job": ".stage.stage",
        "Plan": ".stage.plan",
        "clip_keys": ".sources.clip",
        "folder_clips": ".sources.folder",
        "ingest": ".stage.stage",
        "read_ledger": ".stage.ledger",
    },
)
