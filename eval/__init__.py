"""Evaluation of encoders on HEAR tasks, and their export.

    task folder ─▶ tasks ─▶ clips ─┐
    sound files ─▶ sound ──────────┴▶ embed ─▶ embeddings ─▶ probe ─▶ scores ─▶ report
                                       ▲                       └ run: model x task x seed on Ray
    a checkpoint, any HEAR module ─▶ systems          share: export, similar, validate

`hear` is the HEAR 2021 API: the module to give to `heareval` or any other HEAR tool.
"""

from typing import TYPE_CHECKING

from audio_barlow_twins.lazy import lazily

if TYPE_CHECKING:
    from .embed.files import embed_files as embed_files
    from .hear import get_scene_embeddings as get_scene_embeddings
    from .hear import get_timestamp_embeddings as get_timestamp_embeddings
    from .hear import load_model as load_model
    from .probe.evaluate import evaluate as evaluate
    from .probe.recipe import HEAREVAL as HEAREVAL
    from .tasks.task import read_task as read_task

__all__, __getattr__ = lazily(
    __name__,
    {
        "HEAREVAL": ".probe.recipe",
        "embed_files": ".embed.files",
        "evaluate": ".probe.evaluate",
        "get_scene_embeddings": ".hear",
        "get_timestamp_embeddings": ".hear",
        "load_model": ".hear",
        "read_task": ".tasks.task",
    },
)
