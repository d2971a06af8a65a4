"""A shard set in, a run folder out.

    CropReader ─▶ step.feed ─▶ views (two of each crop) ─▶ step.trainer (network, loss, optimiser)
                                                               │ after each step
    run.launch ─▶ run.session: preflight, loop, stop, save ◀───┘
                     └▶ run folder: config.json, metrics.jsonl, loss.png, checkpoint.pt, encoder.pt

In any number of processes, batch norm, dropout, mixup and correlation use the global batch.
`ablation` trains and scores the settings of a grid; `tools` show views and measure a step.
"""

from typing import TYPE_CHECKING

from audio_barlow_twins.lazy import lazily

if TYPE_CHECKING:
    from .config import OptimiserConfig as OptimiserConfig
    from .config import TrainConfig as TrainConfig
    from .presets import PRESETS as PRESETS
    from .run.launch import start as start
    from .step.trainer import Trainer as Trainer
    from .views.base import LogmelView as LogmelView
    from .views.base import WaveView as WaveView
    from .views.base import span as span

__all__, __getattr__ = lazily(
    __name__,
    {
        "LogmelView": ".views.base",
        "OptimiserConfig": ".config",
        "PRESETS": ".presets",
        "TrainConfig": ".config",
        "Trainer": ".step.trainer",
        "WaveView": ".views.base",
        "span": ".views.base",
        "start": ".run.launch",
    },
)
