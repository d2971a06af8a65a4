"""Views by name, chains of views, and the chains of the presets."""

from collections.abc import Iterable, Mapping

from audio_barlow_twins.shards.base.errors import UserError

from .add import Background, ColouredNoise, Reverb
from .base import VIEWS, Chain, LogmelView, View, WaveView
from .equaliser import Bandwidth, Equaliser
from .level import Clipping, Compression, Fade, Gain, Polarity
from .logmel import Mixup, RandomLinearFader, RandomResizeCrop
from .time import PitchShift, TimeMask, TimeShift, TimeStretch

PAPER = (Mixup.name, RandomResizeCrop.name, RandomLinearFader.name)
"""The paper's final choice, in its order."""


def view_names(kind: type[View] = View) -> tuple[str, ...]:
    """Return the names of the views of a kind, those of waveforms before those of log-mel."""
    return tuple(
        name
        for each in (WaveView, LogmelView)
        for name, view in VIEWS.items()
        if issubclass(view, each) and issubclass(view, kind)
    )


def default_views(kind: type[View] = View) -> Chain:
    """Return every view of a kind with its default options."""
    return {name: VIEWS[name]() for name in view_names(kind)}


def make_chain(names: Iterable[str], options: Mapping[str, View], kind: type[View] = View) -> Chain:
    """Return views of a kind by name, in the order in which they are applied.

    Those in `options` replace the ones with default options.

    Raises:
        UserError: a name is unknown or given twice, or log-mel is changed before waveforms.
    """
    names, known = tuple(names), view_names(kind)
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"no view is called {unknown[0]!r}; choose from {', '.join(known)}; "
            "`abt --import MODULE …` adds views that a module of yours defines"
        )
    if len({*names}) < len(names):
        raise UserError(f"views are {' '.join(names)}; name each at most once")
    if wrong := [name for name, view in options.items() if view.name != name]:
        raise UserError(f"ranges of {wrong[0]!r} are {options[wrong[0]]}; give that view's own")
    chain = {name: options.get(name) or VIEWS[name]() for name in names}
    waves, log_mels = of_kind(chain, WaveView), of_kind(chain, LogmelView)
    if (*waves, *log_mels) != names:
        raise UserError(
            f"views are {' '.join(names)}; those of waveforms ({', '.join(waves)}) come before "
            f"those of log-mel ({', '.join(log_mels)})"
        )
    return chain


def of_kind(chain: Chain, kind: type[View]) -> Chain:
    """Return the views of one kind, in their order."""
    return {name: view for name, view in chain.items() if isinstance(view, kind)}


def _chain(*views: View) -> Chain:
    return {view.name: view for view in views}


_KEEPING_PITCH = _chain(
    TimeStretch(), Equaliser(), Compression(), Reverb(probability=0.3), Background(),
    ColouredNoise(probability=0.3), Bandwidth(probability=0.2), TimeShift(), TimeMask(),
    Polarity(), Gain(),
)  # fmt: skip
WAVE_PRESETS: dict[str, Chain] = {
    "waveform-light": _chain(
        PitchShift(cents=(-100, 100)), Equaliser(gain_db=(-6, 6)), Background(snr_db=(10, 30)),
        TimeShift(shift_ms=(-100, 100)), Polarity(), Gain(gain_db=(-6, 6)),
    ),
    "waveform-strong": _chain(
        PitchShift(), *_KEEPING_PITCH.values(), Clipping(probability=0.2), Fade()
    ),
    "waveform-keeping-pitch": _KEEPING_PITCH,
}  # fmt: skip
