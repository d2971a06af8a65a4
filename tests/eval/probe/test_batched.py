"""Probes trained as one stack against each trained alone by torch.nn, autograd and Adam."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from audio_barlow_twins.eval.embed.embedded import Embedded
from audio_barlow_twins.eval.probe import batched
from audio_barlow_twins.eval.probe.batched import Member, Stack, draw_dropped, fit_batched
from audio_barlow_twins.eval.probe.recipe import Point
from audio_barlow_twins.eval.probe.trainer import (
    BestEpoch,
    Validation,
    batches,
    build_probe,
    loss_of,
    predict,
)

POINT = Point(
    hidden_dim=12, dropout=0.3, batch_size=16, max_epochs=12, check_val_every_n_epoch=2, patience=2
)


def data_of(seed: int, n: int, multilabel: bool) -> Embedded:
    """Make embeddings of 9 dimensions that say something about 4 labels."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.eye(4)[torch.randint(4, (n,), generator=generator)]
    if multilabel:
        targets = torch.rand(n, 4, generator=generator).round()
    noise = torch.randn(n, 9, generator=generator)
    return Embedded(noise + targets @ torch.randn(4, 9, generator=generator), targets)


def member_of(seed: int, point: Point, train: Embedded, multilabel: bool) -> Member:
    """Make a training that is stopped by the loss on data of its own."""
    torch.manual_seed(seed)
    valid = data_of(seed + 1, 30, multilabel)

    def begin(network: nn.Module) -> Callable[[], Validation]:
        assert not network.training
        loss = loss_of(predict(network, valid.embeddings, 1024), valid.targets, multilabel)
        return lambda: Validation(loss.item())

    generator = torch.Generator().manual_seed(seed)
    best = BestEpoch(point, maximize=False, stop_at_nan=True)
    return Member(build_probe(9, 4, point), train, generator, begin, best)


class Masked(nn.Module):
    """Dropout whose mask is drawn as `fit_batched` draws it."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, H] to as many."""
        if not self.training:
            return x
        dropped = draw_dropped([self.generator], x.T.shape, self.p)[0].T
        return x.masked_fill(dropped, 0) / (1 - self.p)


def fit_alone(member: Member, multilabel: bool) -> None:
    """Do the same with torch's own parts, float32, one probe."""
    point, network, optimizer = member.best.point, member.network, None
    for i in range(0, 4 * point.hidden_layers, 4):
        network[i].bias.requires_grad_(False).zero_()
        network[i + 2] = Masked(point.dropout, member.generator)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=point.lr)
    for epoch in range(point.max_epochs):
        network.train()
        for rows in batches(len(member.train), point.batch_size):
            logits = network(member.train.embeddings[rows])
            optimizer.zero_grad()
            loss_of(logits, member.train.targets[rows], multilabel).backward()
            optimizer.step()
        if (epoch + 1) % point.check_val_every_n_epoch == 0:
            found = member.begin_validation(network.eval())()
            if not member.best.add(found, epoch, network):
                return


def assert_alike(ours: Member, theirs: Member) -> None:
    """Compare what is kept of two trainings: when, how good, and every weight and statistic."""
    a, b = ours.best.result(), theirs.best.result()
    assert a.epoch == b.epoch
    assert a.validation.value == pytest.approx(b.validation.value, rel=1e-4)
    for name in a.state.keys() - {n for n in a.state if n.endswith("num_batches_tracked")}:
        torch.testing.assert_close(a.state[name], b.state[name], rtol=2e-3, atol=2e-5)


hyperparameters = st.builds(
    lambda depth, lr, dropout, width, patience: replace(
        POINT, hidden_layers=depth, lr=lr, dropout=dropout, hidden_dim=width, patience=patience
    ),
    st.integers(0, 3),
    st.sampled_from([3.2e-3, 1e-3, 1e-4]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([5, 12]),
    st.integers(1, 3),
)


@given(
    points=st.lists(hyperparameters, min_size=1, max_size=6),
    sizes=st.lists(st.sampled_from([20, 33]), min_size=6, max_size=6),
    multilabel=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_each_member_is_trained_as_it_would_be_alone(
    points: Sequence[Point], sizes: Sequence[int], multilabel: bool, seed: int
) -> None:
    shared = {n: data_of(n, n, multilabel) for n in sizes}
    members = [
        member_of(seed + i, point, shared[n], multilabel)
        for i, (point, n) in enumerate(zip(points, sizes, strict=False))
    ]
    alone = [replace(each, network=deepcopy(each.network)) for each in members]
    for i, each in enumerate(alone):
        each.best = replace(each.best)
        each.generator = torch.Generator().manual_seed(seed + i)
    fit_batched(members, multilabel, torch.float32)
    for ours, theirs in zip(members, alone, strict=True):
        fit_alone(theirs, multilabel)
        assert_alike(ours, theirs)


def test_a_member_that_stops_leaves_the_stack_and_changes_no_other(monkeypatch) -> None:
    points = [replace(POINT, hidden_layers=d, max_epochs=20, patience=99) for d in (1, 2, 2)]
    trains = [data_of(i, 20, multilabel=False) for i in range(3)]

    def members() -> list[Member]:
        return [member_of(i, points[i], trains[i], multilabel=False) for i in range(3)]

    alone = members()
    for member in alone:
        fit_batched([member], False, torch.float32)
    beside, sizes = members(), []
    beside[1].begin_validation = lambda network: lambda: Validation(0.0, perfect=True)
    logits = Stack.logits
    monkeypatch.setattr(
        Stack, "logits", lambda some, x: sizes.append(len(some.members)) or logits(some, x)
    )
    fit_batched(beside, False, torch.float32)
    assert sizes == [3] * 2 * 2 + [2] * 2 * 18
    for i in (0, 2):
        assert_alike(beside[i], alone[i])


@pytest.mark.parametrize("multilabel", [False, True])
def test_bfloat16_trains_to_nearly_the_same_loss(multilabel: bool) -> None:
    data = data_of(0, 200, multilabel)
    point = replace(POINT, hidden_dim=64, hidden_layers=2, max_epochs=60, lr=1e-3)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        members = [member_of(i, point, data, multilabel) for i in range(6)]
        fit_batched(members, multilabel, dtype)
        losses.append([each.best.result().validation.value for each in members])
        assert all(p.dtype == torch.float32 for p in members[0].network.parameters())
    exact, coarse = torch.tensor(losses)
    assert (exact != coarse).all()
    torch.testing.assert_close(coarse, exact, rtol=0.05, atol=0)


def test_draws_have_the_probability_wanted_and_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    for p in (0.0, 0.1, 0.5):
        first, second = (draw_dropped([generator], torch.Size((1001, 997)), p) for _ in range(2))
        # A million draws: the standard error is at most 5e-4.
        assert first.float().mean().item() == pytest.approx(p, abs=2e-3)
        assert (first != second).float().mean().item() == pytest.approx(2 * p * (1 - p), abs=2e-3)


def test_a_single_training_clip_is_refused() -> None:
    member = member_of(0, POINT, data_of(0, 1, multilabel=False), multilabel=False)
    with pytest.raises(ValueError, match="one training clip"):
        fit_batched([member], False, torch.float32)


@pytest.mark.parametrize("multilabel", [False, True])
def test_training_stays_on_the_device_and_validations_are_all_begun_before_one_is_awaited(
    multilabel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors on `meta` have no values that could be read, and refuse to meet those of the host."""
    meta, adam = torch.device("meta"), torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda groups, fused: adam(groups))

    def draw(generators: Sequence[torch.Generator], shape: torch.Size, p: float) -> Tensor:
        return torch.empty(len(generators), *shape, dtype=torch.bool, device=meta)

    monkeypatch.setattr(batched, "draw_dropped", draw)  # generators are where the network is
    data = Embedded(torch.empty(40, 9, device=meta), torch.empty(40, 4, device=meta))
    told: list[str] = []

    def begin(network: nn.Module) -> Callable[[], Validation]:
        assert predict(network, data.embeddings, 1024).device == meta
        told.append("begun")
        return lambda: told.append("awaited") or Validation(0.0)

    points = [replace(POINT, hidden_layers=depth, max_epochs=4, patience=9) for depth in (2, 1, 1)]
    members = [
        Member(
            build_probe(9, 4, point).to(meta),
            data,
            torch.Generator(),
            begin,
            BestEpoch(point, maximize=False, stop_at_nan=True),
        )
        for point in points
    ]
    fit_batched(members, multilabel, torch.bfloat16)
    assert told == 2 * (3 * ["begun"] + 3 * ["awaited"])
