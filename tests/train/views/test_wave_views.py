"""What holds for every view of a waveform, and for chains of them."""

import pytest
import torch
from drawing import keys_of, numbers
from launches import fake_gpu
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.front_end import FrontEnd
from audio_barlow_twins.train.views.add import Background, ColouredNoise, Reverb
from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import VIEWS, ViewContext, WaveView, draws_of
from audio_barlow_twins.train.views.norm import SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews, apply_chain, needed_samples
from audio_barlow_twins.train.views.registry import WAVE_PRESETS, view_names
from audio_barlow_twins.train.views.time import TimeShift, TimeStretch

WAVE_VIEWS = {name: VIEWS[name] for name in view_names(WaveView)}

N, T = 24, 4000
RANGES = [(name, option) for name, view in WAVE_VIEWS.items() for option in view.spans]


KEYS = keys_of(N, seed=3)


def make_waves(n: int = N, seed: int = 0) -> Tensor:
    """Draw decaying noise, float32 [n, T]."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, T, generator=g) * torch.linspace(0.3, 0.05, T)


def make_context(n_out: int = T, sample_rate: int = 16000) -> ViewContext:
    """Make a context with a bank of twenty clips."""
    bank = Bank(32, (T,))
    bank.push(make_waves(20, seed=1))
    return ViewContext(shape=(n_out,), bank=bank, sample_rate=sample_rate)


@pytest.mark.parametrize("name", WAVE_VIEWS)
class TestEveryView:
    """What holds for every view."""

    def test_half_the_samples_change_and_the_rest_is_the_same_bit_for_bit(self, name: str) -> None:
        x = make_waves()
        view = WAVE_VIEWS[name]()
        made, drawn = view(x, numbers(view, KEYS), make_context())
        changed = (made != x).any(1)
        assert torch.equal(changed, drawn["applied"])
        assert 0 < int(changed.sum()) < N

    def test_who_is_changed_is_changed_by_what_was_drawn(self, name: str) -> None:
        view, x = WAVE_VIEWS[name](), make_waves()
        made, drawn = view(x, numbers(view, KEYS), make_context())
        chosen = drawn.pop("applied")
        expected = view.change(x, drawn, make_context())
        assert torch.equal(made[chosen], expected[chosen])

    def test_as_many_numbers_are_drawn_whichever_samples_change(self, name: str) -> None:
        never, always = (WAVE_VIEWS[name](probability=p) for p in (0, 1))
        _, unused = never(make_waves(), numbers(never, KEYS), make_context())
        _, used = always(make_waves(), numbers(always, KEYS), make_context())
        assert all(torch.equal(used[key], unused[key]) for key in used if key != "applied")

    def test_the_place_in_the_batch_does_not_matter(self, name: str) -> None:
        view, x, order = WAVE_VIEWS[name](), make_waves(), torch.randperm(N)
        straight, _ = view(x, numbers(view, KEYS), make_context())
        permuted, _ = view(x[order], numbers(view, KEYS[order]), make_context())
        torch.testing.assert_close(permuted, straight[order], atol=1e-4, rtol=1e-3)

    def test_nothing_waits_for_the_device_or_leaves_it(self, name: str) -> None:
        view, bank = WAVE_VIEWS[name](), Bank(8, (T,))
        draws = draws_of({name: view})
        with fake_gpu(bank, draws) as gpu:
            x, keys = torch.empty(N, T, device=gpu), torch.empty(N, device=gpu).long()
            made, _ = view(x, draws(keys)[name], ViewContext(shape=(T,), bank=bank))
        assert (made.device.type, made.dtype, made.shape) == ("cuda", torch.float32, (N, T))

    def test_silence_gives_no_infinite_or_undefined_sample(self, name: str) -> None:
        view, x = WAVE_VIEWS[name](probability=1), torch.zeros(N, T)
        made, _ = view(x, numbers(view, KEYS), make_context())
        assert bool((made == 0).all())

    def test_every_change_can_be_said(self, name: str) -> None:
        view = WAVE_VIEWS[name]()
        _, drawn = view(make_waves(), numbers(view, KEYS), make_context())
        said = view.describe(drawn)
        assert [bool(text) for text in said] == drawn["applied"].tolist()

    def test_another_sample_rate_and_length_will_do(self, name: str) -> None:
        view, x = WAVE_VIEWS[name](probability=1), make_waves()[:, :3001]
        made, _ = view(x, numbers(view, KEYS), make_context(3001, sample_rate=44100))
        assert made.shape == x.shape
        assert bool(made.isfinite().all())


def test_without_values_reading_one_raises() -> None:
    with fake_gpu() as gpu, pytest.raises(DataDependentOutputException):
        torch.ones(3, device=gpu).sum().item()


@pytest.mark.parametrize(("name", "field"), RANGES)
def test_parameters_fill_their_range(name: str, field: str) -> None:
    view = WAVE_VIEWS[name]()
    low, high = getattr(view, field)
    drawn = view.derive(numbers(view, keys_of(4000)), make_context())
    bands = {"low_hz": 0, "peak_hz": 1, "high_hz": -1}
    values = drawn["frequency_hz"][:, bands[field]] if field in bands else drawn[field]
    values = values[:, 1] if values.ndim == 2 else values  # the first band has no quality drawn
    small, large, slack = float(values.min()), float(values.max()), 0.01 * (high - low) + 1e-6
    assert low - 1e-6 <= small <= low + slack
    assert high - slack <= large <= high + 1e-6


@pytest.mark.parametrize(("name", "field"), RANGES)
def test_ranges_upside_down_are_refused_with_the_fields_name(name: str, field: str) -> None:
    low, high = getattr(WAVE_VIEWS[name](), field)
    with pytest.raises(UserError, match=f"^{name}.{field} is"):
        WAVE_VIEWS[name](**{field: (high + 1, low)})


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_impossible_probabilities_are_refused(probability: float) -> None:
    with pytest.raises(UserError, match="probability is"):
        TimeShift(probability=probability)


def test_ranges_without_end_are_refused() -> None:
    with pytest.raises(UserError, match="shift_ms"):
        TimeShift(shift_ms=(0, float("inf")))


def test_a_shift_of_pitch_is_said_in_cents() -> None:
    view = WAVE_VIEWS["pitch-shift"]()
    drawn = {"applied": torch.tensor([True, False]), "cents": torch.tensor([137.2, 5])}
    assert view.describe(drawn) == ["pitch +137 cents", ""]


def test_an_equaliser_says_every_band() -> None:
    drawn = {
        "applied": torch.tensor([True]),
        "frequency_hz": torch.tensor([[100.0, 5000]]),
        "q": torch.ones(1, 2),
        "gain_db": torch.tensor([[3.0, -4.5]]),
    }
    said = WAVE_VIEWS["equaliser"](peaks=0).describe(drawn)
    assert said == ["equaliser +3.0 dB at 100 Hz, -4.5 dB at 5000 Hz"]


def test_the_background_is_a_clip_of_the_bank() -> None:
    context, x = make_context(), make_waves()
    view = Background(probability=1)
    added = view(x, numbers(view, KEYS), context)[0] - x
    likeness = torch.corrcoef(torch.cat([added, context.bank.clips()]))[:N, N:]
    torch.testing.assert_close(likeness.amax(1), torch.ones(N), atol=1e-3, rtol=0)
    assert len(likeness.argmax(1).unique()) > 5


def test_a_background_takes_no_clip_that_is_older_than_its_memory() -> None:
    context, x = make_context(), make_waves()
    view = Background(probability=1, memory=3)
    added = view(x, numbers(view, KEYS), context)[0] - x
    likeness = torch.corrcoef(torch.cat([added, context.bank.clips()]))[:N, N:]
    assert likeness.argmax(1).unique().tolist() == [17, 18, 19]


def test_an_empty_bank_adds_nothing() -> None:
    context = ViewContext(shape=(T,), bank=Bank(8, (T,)))
    x, view = make_waves(), Background(probability=1)
    assert torch.equal(view(x, numbers(view, KEYS), context)[0], x)


def test_noise_and_rooms_differ_from_sample_to_sample() -> None:
    pulse = torch.zeros(N, T)
    pulse[:, 0] = 1
    noise = ColouredNoise(probability=1, slope_db=(0, 0))
    room = Reverb(probability=1, rt60_s=(1, 1))
    for view in (noise, room):
        made = view(pulse, numbers(view, KEYS), make_context())[0][:, 1:]
        assert float(torch.corrcoef(made).fill_diagonal_(0).abs().max()) < 0.2


@pytest.mark.parametrize("preset", WAVE_PRESETS)
class TestEveryPreset:
    """What holds for every preset."""

    def test_samples_to_spare_make_views_without_zeros_at_the_end(self, preset: str) -> None:
        chain = {
            n: v
            for n, v in WAVE_PRESETS[preset].items()
            if n not in ("time-shift", "time-mask", "fade")
        }
        x = torch.randn(N, needed_samples(chain, 3000, 16000))
        made, _ = apply_chain(chain, x, draws_of(chain)(KEYS), make_context(3000))
        assert made.shape == (N, 3000)
        assert bool((made[:, -50:].abs().amax(1) > 0).all())

    def test_longer_clips_make_the_same_views(self, preset: str) -> None:
        chain, context = WAVE_PRESETS[preset], make_context(2000)
        x = torch.randn(N, 9000)
        needed = needed_samples(chain, 2000, 16000)
        whole, _ = apply_chain(chain, x, draws_of(chain)(KEYS), context)
        cut, _ = apply_chain(chain, x[:, :needed], draws_of(chain)(KEYS), context)
        assert torch.equal(whole, cut)

    def test_autocast_changes_nothing(self, preset: str) -> None:
        crops = (make_waves() * 30_000).to(torch.int16)
        keys = torch.stack([KEYS, keys_of(N, seed=3, epoch=1)])

        def make() -> Tensor:
            views = TwoViews(WAVE_PRESETS[preset], SetNorm(-4, 2), (20, 64), FrontEnd())
            views.remember(crops)
            return torch.stack(views(crops, keys))

        expected = make()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(make(), expected)

    def test_leaving_a_view_out_does_not_change_the_others_numbers(self, preset: str) -> None:
        chain = WAVE_PRESETS[preset]
        less = {name: view for name, view in chain.items() if name != "equaliser"}
        _, all_ = apply_chain(chain, make_waves(), draws_of(chain)(KEYS), make_context())
        _, some = apply_chain(less, make_waves(), draws_of(less)(KEYS), make_context())
        for name, drawn in some.items():
            assert all(torch.equal(drawn[key], all_[name][key]) for key in drawn)


def test_only_the_preset_that_says_so_keeps_pitch() -> None:
    assert [name for name, chain in WAVE_PRESETS.items() if "pitch-shift" not in chain] == [
        "waveform-keeping-pitch"
    ]


def test_a_stretch_asks_for_as_many_samples_as_its_highest_speed_reads() -> None:
    chain = {"time-stretch": TimeStretch(rate=(0.5, 1.5))}
    assert 24_000 < needed_samples(chain, 16_000, 16_000) <= 24_000 + 1024
