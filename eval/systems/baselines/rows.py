"""The baselines by the names that `abt eval hear --baselines` takes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Baseline:
    row: str
    """What the report calls it."""
    module: str
    of_checkpoint: bool = False
    """Whether it uses the front-end and statistics of the checkpoint that is scored."""
    needs_weights: str = ""
    """Which weights the user must give, if any."""
    options: tuple[str, ...] = ()
    """Further arguments of `load_model`, each NAME=VALUE."""


def _byol_a(version: int, width: int, features: int) -> Baseline:
    """Return BYOL-A of one version and width, whose embeddings have `features` numbers."""
    return Baseline(
        row=f"BYOL-A v{version}, {features}-d",
        module=f"{__package__}.byol_a",
        needs_weights=f"a published state dict of version {version} and width {width}",
        options=(f"version={version}", f"width={width}"),
    )


BASELINES: Mapping[str, Baseline] = {
    "random": Baseline(
        row="random init",
        module=f"{__package__}.random_init",
        of_checkpoint=True,
    ),
    "log-mel": Baseline(
        row="log-mel mean+std",
        module=f"{__package__}.log_mel",
        of_checkpoint=True,
    ),
    "crepe": Baseline(row="CREPE", module=f"{__package__}.crepe"),
    "byol-a": Baseline(
        row="BYOL-A",
        module=f"{__package__}.byol_a",
        needs_weights="a published state dict",
    ),
    **{f"byol-a-v1-{width}": _byol_a(1, width, width) for width in (512, 1024, 2048)},
    **{f"byol-a-v2-{width}": _byol_a(2, width, 1024 + width) for width in (1024, 2048)},
    "wav2vec2": Baseline(
        row="wav2vec 2.0",
        module=f"{__package__}.wav2vec2",
        needs_weights="a folder with config.json and weights",
    ),
}
