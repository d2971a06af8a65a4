"""Views: every augmentation against its formula and torch, distributions, and repeatability."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawing import keys_of, numbers, plain_uniforms, plain_words, signed
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.train.views.bank import Bank
from audio_barlow_twins.train.views.base import LogmelView, ViewContext
from audio_barlow_twins.train.views.draws import normals
from audio_barlow_twins.train.views.logmel import (
    Mixup,
    Noise,
    RandomLinearFader,
    RandomResizeCrop,
    cubic_weights,
    resize_weights,
)
from audio_barlow_twins.train.views.norm import SetNorm
from audio_barlow_twins.train.views.pipeline import TwoViews
from audio_barlow_twins.train.views.registry import PAPER, make_chain

T, MELS, CANVAS = 96, 64, 144


def make_keys(n: int, epoch: int = 0) -> Tensor:
    """Make the keys of both views of the first `n` clips, int64 [2, n]."""
    return torch.stack([keys_of(n, epoch=epoch, view=view) for view in (0, 1)])


def make_clips(n: int, seed: int = 0, frames: int = T, mels: int = MELS) -> Tensor:
    """Draw a batch of normalised log-mel."""
    return torch.randn(n, frames, mels, generator=torch.Generator().manual_seed(seed))


def make_context(frames: int = T, mels: int = MELS) -> ViewContext:
    """Make a context without earlier clips."""
    return ViewContext(shape=(frames, mels), bank=Bank(1, (frames, mels)))


def change(view: LogmelView, x: Tensor) -> Tensor:
    """Change clips [N, T, F] by a view, from the keys of the first N clips."""
    drawn = numbers(view, keys_of(len(x)))
    return view(x, drawn, make_context(*x.shape[1:]))[0]


def draw_windows(view: RandomResizeCrop, n: int, frames: int, mels: int) -> tuple[Tensor, ...]:
    """Draw windows: height, width, top, left."""
    drawn = view.derive(numbers(view, keys_of(n)), make_context(frames, mels))
    return drawn["height"], drawn["width"], drawn["top"], drawn["left"]


class TestRandomResizeCrop:
    """Windows and their bicubic resize."""

    @pytest.mark.parametrize(("frames", "mels"), [(T, MELS), (33, 20), (5, 3), (1, 1)])
    def test_every_sample_equals_interpolate_of_its_window(self, frames: int, mels: int) -> None:
        n, canvas = 64, int(1.5 * frames)
        x = make_clips(n, frames=frames, mels=mels)
        out = change(RandomResizeCrop(), x)
        windows = draw_windows(RandomResizeCrop(), n, frames, mels)
        before = (canvas - frames) // 2
        for i, (height, width, top, left) in enumerate(torch.stack(windows, 1).tolist()):
            held = torch.zeros(canvas, mels, dtype=torch.float64)
            held[before : before + frames] = x[i]
            crop = held[left : left + width, top : top + height]
            expected = F.interpolate(
                crop[None, None], size=(frames, mels), mode="bicubic", align_corners=True
            )[0, 0]
            torch.testing.assert_close(out[i].double(), expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("size", [2, 7, 64])
    def test_every_window_of_one_axis_equals_interpolate(self, size: int) -> None:
        around = size // 2
        pairs = [
            (start, length)
            for start in range(-around, size)
            for length in range(1, size + around - start + 1)
        ]
        starts, lengths = torch.tensor(pairs[:: max(1, len(pairs) // 400)]).T
        line = make_clips(1, frames=1, mels=size)[0, 0]
        out = resize_weights(starts, lengths, size) @ line
        held = F.pad(line.double(), (around, around))
        for i, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            crop = held[start + around : start + around + length].expand(1, 1, 2, length)
            expected = F.interpolate(crop, size=(2, size), mode="bicubic", align_corners=True)
            torch.testing.assert_close(out[i].double(), expected[0, 0, 0], atol=1e-5, rtol=1e-5)

    def test_the_window_of_the_whole_clip_changes_nothing(self) -> None:
        weights = resize_weights(torch.tensor([0]), torch.tensor([40]), 40)
        assert torch.equal(weights[0], torch.eye(40))

    def test_height_has_the_distribution_of_the_formula(self) -> None:
        # int(U(0.6, 1.5) 64) is 38 to 95 and at most the canvas's 64 bins.
        height = self.draw()[0]
        low, high = 0.6 * 64, 1.5 * 64
        probability = [39 - low, *[1.0] * (64 - 39), high - 64]
        self.check(height, range(38, 65), np.array(probability) / (high - low))

    def test_width_has_the_distribution_of_the_formula(self) -> None:
        # int(U(0.6, 1.5) 96) is 57 to 143, below the canvas's 144 frames.
        width = self.draw()[1]
        low, high = 0.6 * 96, 1.5 * 96
        probability = [58 - low, *[1.0] * (144 - 58)]
        self.check(width, range(57, 144), np.array(probability) / (high - low))

    def test_positions_are_uniform_over_those_where_the_window_fits(self) -> None:
        height, width, top, left = self.draw()
        for length, start, canvas in ((height, top, MELS), (width, left, CANVAS)):
            for fixed in length.unique()[::9].tolist():
                counts = torch.bincount(start[length == fixed], minlength=canvas - fixed + 1)
                assert len(counts) == canvas - fixed + 1
                assert len(counts) == 1 or stats.chisquare(counts).pvalue > 1e-4

    def test_height_and_width_and_positions_are_independent(self) -> None:
        height, width, top, left = self.draw()
        across = (top + 0.5) / (MELS - height + 1), (left + 0.5) / (CANVAS - width + 1)
        tall = height < MELS
        for a, b in ((height, width), (height, across[1]), (width, across[0]), across):
            assert abs(stats.spearmanr(a[tall], b[tall]).statistic) < 0.02

    def test_windows_larger_than_the_canvas_are_clipped(self) -> None:
        height, width, top, left = draw_windows(RandomResizeCrop(scale=(9, 10)), 9, 6, 4)
        assert height.tolist() == [4] * 9
        assert width.tolist() == [9] * 9
        assert top.tolist() == left.tolist() == [0] * 9

    def test_windows_have_at_least_one_point(self) -> None:
        height, width, _, _ = draw_windows(RandomResizeCrop(scale=(0.01, 0.1)), 9, 6, 4)
        assert height.tolist() == width.tolist() == [1] * 9

    @staticmethod
    def draw() -> tuple[Tensor, ...]:
        """Draw many windows: height, width, top, left."""
        return draw_windows(RandomResizeCrop(), 60_000, T, MELS)

    @staticmethod
    def check(values: Tensor, support: range, probability: np.ndarray) -> None:
        """Compare counts with probabilities over the whole support."""
        assert set(values.tolist()) <= set(support)
        counts = torch.bincount(values, minlength=support.stop)[support.start :].numpy()
        assert stats.chisquare(counts, probability * len(values)).pvalue > 1e-3


@given(
    size=st.integers(1, 40),
    windows=st.lists(st.tuples(st.integers(1, 60), st.integers(-30, 40)), min_size=1, max_size=9),
)
def test_resize_weights_are_those_of_adding_tap_by_tap(
    size: int, windows: list[tuple[int, int]]
) -> None:
    length, start = torch.tensor(windows).T
    position = torch.arange(size) * (length - 1)[:, None]
    whole = position // max(size - 1, 1)
    rest = (position - whole * max(size - 1, 1)).float() / max(size - 1, 1)
    taps = whole[..., None] + torch.arange(-1, 3)
    taps = taps.clamp(min=0).minimum((length - 1)[:, None, None]) + start[:, None, None]
    weights = cubic_weights(rest) * ((taps >= 0) & (taps < size))
    expected = torch.zeros(len(windows), size, size)
    expected.scatter_add_(2, taps.clamp(0, size - 1), weights)
    assert torch.equal(resize_weights(start, length, size), expected)


class TestRandomLinearFader:
    """Straight lines over time."""

    def test_fading_equals_the_formula_sample_by_sample(self) -> None:
        x = make_clips(30)
        out = change(RandomLinearFader(gain=0.7), x)
        heads, tails = (plain_uniforms(keys_of(30), "rlf", n, -0.7, 0.7) for n in (1, 2))
        for i, clip in enumerate(x.double().numpy()):
            line = np.linspace(heads[i], tails[i], T)
            np.testing.assert_allclose(out[i].numpy(), clip + line[:, None], atol=1e-6)

    def test_both_ends_are_uniform_and_independent(self) -> None:
        line = change(RandomLinearFader(), torch.zeros(20_000, 5, 2))
        head, tail = line[:, 0, 0], line[:, -1, 1]
        for end in (head, tail):
            assert stats.kstest(end, stats.uniform(-1, 2).cdf).pvalue > 1e-3
        assert stats.spearmanr(head, tail).pvalue > 1e-3


class TestNoise:
    """Noise as power."""

    @pytest.mark.parametrize("gain", [0.0, 1.0, 60.0])
    def test_noise_equals_the_formula_sample_by_sample(self, gain: float) -> None:
        x = gain * make_clips(12)
        out = change(Noise(), x)
        deviations = plain_uniforms(keys_of(12), "noise", 1, 0, 0.2)
        words = torch.tensor([signed(word) for word in plain_words(keys_of(12), "noise", 2)])
        z = normals(words, T * MELS).double().numpy().reshape(12, T, MELS)
        for i, clip in enumerate(x.double().numpy()):
            noise = np.exp(deviations[i] * z[i])
            expected = np.log((1 - deviations[i]) * np.exp(clip) + noise + 2.0**-23)
            np.testing.assert_allclose(out[i].numpy(), expected, atol=2e-6, rtol=1e-6)

    def test_deviation_is_uniform_and_noise_is_normal(self) -> None:
        # With x = -30, e^x counts for nothing: out is log(e^z + eps).
        n = 4000
        z = change(Noise(), torch.full((n, 16, 16), -30.0))
        z = (z.double().exp() - 2.0**-23).log().flatten(1)
        deviation = z.square().mean(1).sqrt()
        assert stats.kstest(deviation, stats.uniform(0, 0.2).cdf).pvalue > 1e-3
        standard = (z / deviation[:, None])[deviation > 1e-3].flatten()[::7]
        assert stats.kstest(standard, stats.norm.cdf).statistic < 0.01

    def test_two_clips_get_different_noise(self) -> None:
        a, b = change(Noise(), torch.zeros(2, T, MELS)).flatten(1)
        assert abs(stats.pearsonr(a, b).statistic) < 0.05


def make_views(
    names: tuple[str, ...] = PAPER, memory: int = 2048, shape: tuple[int, int] = (T, MELS)
) -> TwoViews:
    """Build views of log-mel with mean -4 and deviation 2."""
    chain = make_chain(names, {"mixup": Mixup(memory=memory)})
    return TwoViews(chain, SetNorm(-4, 2), shape)


def make_logmel(n: int, seed: int = 0, frames: int = T, mels: int = MELS) -> Tensor:
    """Draw log-mel with mean -4 and deviation 2."""
    return make_clips(n, seed, frames, mels) * 2 - 4


class TestViews:
    """All augmentations in their order."""

    @pytest.mark.parametrize(
        "names", [PAPER, ("rrc", "noise"), ("rlf", "rrc", "noise", "mixup"), ()]
    )
    def test_views_apply_what_is_named_in_its_order(self, names: tuple[str, ...]) -> None:
        views = make_views(names)
        views.remember(make_logmel(20, seed=3))
        bank = Bank(2048, (T, MELS))
        bank.push(make_clips(20, seed=3))
        context = ViewContext(shape=(T, MELS), bank=bank)
        each: dict[str, LogmelView] = {
            "mixup": Mixup(), "rrc": RandomResizeCrop(), "rlf": RandomLinearFader(),
            "noise": Noise(),
        }  # fmt: skip
        keys = make_keys(6)
        for view, key in zip(views(make_logmel(6), keys), keys, strict=True):
            expected = make_clips(6)
            for name in names:
                expected, _ = each[name](expected, numbers(each[name], key), context)
            torch.testing.assert_close(view, expected, atol=2e-5, rtol=2e-5)

    def test_leaving_one_out_does_not_change_the_draws_of_another(self) -> None:
        x, keys = make_logmel(6), make_keys(6)
        alone, after = make_views(("rlf",))(x, keys), make_views(("rrc", "rlf"))(x, keys)
        cropped = make_views(("rrc",))(x, keys)
        torch.testing.assert_close(after[0] - cropped[0], alone[0] - make_clips(6))

    def test_the_bank_gets_every_clip_once_and_as_it_was_read(self) -> None:
        views = make_views(memory=10, shape=(8, 6))
        batches = [make_logmel(4, seed=s, frames=8, mels=6) for s in range(5)]
        for epoch, x in enumerate(batches):
            given_to = x.clone()
            views(x, make_keys(4, epoch))
            assert torch.equal(x, given_to)
        assert torch.equal(views.bank.clips(), (torch.cat(batches)[-10:] + 4) / 2)

    def test_a_bank_of_one_clip_is_a_bank(self) -> None:
        views = make_views(memory=1)
        views(make_logmel(4), make_keys(4))
        torch.testing.assert_close(views.bank.clips(), make_clips(4)[-1:])

    def test_the_same_keys_make_the_same_views(self) -> None:
        first, second = self.run_steps(), self.run_steps()
        assert all(map(torch.equal, first, second))

    def test_the_two_views_differ(self) -> None:
        view_a, view_b = self.run_steps()
        assert float((view_a - view_b).abs().mean()) > 0.1

    def test_the_place_in_the_batch_does_not_matter(self) -> None:
        permutation = torch.tensor([4, 2, 0, 5, 1, 3])
        straight, permuted = self.run_steps(), self.run_steps(permutation)
        for a, b in zip(straight, permuted, strict=True):
            torch.testing.assert_close(a[permutation], b, atol=1e-6, rtol=1e-6)

    def test_a_refilled_bank_continues_the_interrupted_run(self) -> None:
        views, resumed = make_views(memory=10), make_views(memory=10)
        batches = [make_logmel(6, seed=epoch) for epoch in range(4)]
        for epoch, x in enumerate(batches):
            views(x, make_keys(6, epoch))
        for x in batches[-2:]:
            resumed.remember(x)
        last = make_logmel(6, seed=9), make_keys(6, 9)
        assert all(map(torch.equal, views(*last), resumed(*last)))

    def test_autocast_changes_nothing(self) -> None:
        expected = self.run_steps()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert all(map(torch.equal, self.run_steps(), expected))

    @staticmethod
    def run_steps(permutation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Make views of a batch, optionally permuted, after one step that fills the bank."""
        views = make_views()
        views(make_logmel(6, seed=1), make_keys(6))
        every = torch.arange(6) if permutation is None else permutation
        return views(make_logmel(6)[every], make_keys(6, 1)[:, every])


@pytest.mark.parametrize(
    ("view", "bad"),
    [
        (Mixup, {"alpha": -0.1}),
        (Mixup, {"alpha": 1.1}),
        (Mixup, {"memory": 0}),
        (RandomResizeCrop, {"scale": (0.0, 1.0)}),
        (RandomResizeCrop, {"scale": (1.5, 0.6)}),
        (RandomResizeCrop, {"canvas": 0.9}),
        (RandomLinearFader, {"gain": -1.0}),
        (RandomLinearFader, {"gain": float("nan")}),
        (Noise, {"deviation": 1.5}),
    ],
)
def test_impossible_settings_are_refused(view: type, bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        view(**bad)


def test_unknown_views_are_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no view is called 'reverse'; choose from .*noise; `abt"):
        make_chain(("rrc", "reverse"), {})


def test_repeated_views_are_refused() -> None:
    with pytest.raises(UserError, match="views are rrc rrc; name each at most once"):
        make_chain(("rrc", "rrc"), {})


def test_options_of_another_view_are_refused() -> None:
    with pytest.raises(UserError, match="ranges of 'rrc' are Noise"):
        make_chain(("rrc",), {"rrc": Noise()})
