import random
from dataclasses import replace

import pytest
import torch
from sklearn.model_selection import ParameterGrid

from audio_barlow_twins.eval.probe.recipe import (
    HEAREVAL,
    RECIPES,
    Point,
    draw_loader_seed,
    draw_made_up_batch,
    generator_state,
    own_generators,
    points_of,
    set_generator_state,
    training_seed,
)
from audio_barlow_twins.eval.tasks.metadata import TaskError, TaskMetadata
from audio_barlow_twins.eval.tasks.order import embedding_order

SMOKE_GRID = {
    "hidden_layers": (0, 1),
    "hidden_dim": (64, 128),
    "initialization": ("xavier_uniform_", "xavier_normal_"),
    "lr": (3.2e-3, 1e-3, 3.2e-4, 1e-4),
    "patience": (1, 3),
}
CPU = torch.device("cpu")
TOY = TaskMetadata(
    name="toy-v1-full",
    task_name="toy",
    embedding_type="scene",
    prediction_type="multiclass",
    split_mode="trainvaltest",
    splits=("train", "valid", "test"),
    evaluation=("top1_acc",),
    labels=("a", "b"),
)


def test_the_eight_points_are_those_that_heareval_tries() -> None:
    tried = [(p.hidden_layers, p.initialization, p.lr) for p in points_of(TOY, HEAREVAL)]
    uniform, normal = "xavier_uniform_", "xavier_normal_"
    assert tried == [
        (1, normal, 1e-4), (2, uniform, 1e-3), (1, normal, 1e-3), (1, normal, 3.2e-4),
        (2, normal, 3.2e-4), (2, uniform, 3.2e-4), (2, normal, 3.2e-3), (2, uniform, 3.2e-3),
    ]  # fmt: skip


def test_dcase_is_validated_every_ten_epochs_and_others_every_three() -> None:
    dcase = replace(TOY, task_name="dcase2016_task2")
    for task, epochs in ((TOY, 3), (dcase, 10)):
        assert {p.check_val_every_n_epoch for p in points_of(task, HEAREVAL)} == {epochs}


def test_what_a_task_sets_goes_for_all_its_points_and_keeps_their_order() -> None:
    task = replace(TOY, param_grid={"max_epochs": (50,), "check_val_every_n_epoch": (1,)})
    points = points_of(task, HEAREVAL)
    assert {(p.max_epochs, p.check_val_every_n_epoch) for p in points} == {(50, 1)}
    assert [p.lr for p in points] == [p.lr for p in points_of(TOY, HEAREVAL)]


def test_points_are_a_shuffle_of_scikit_learns_grid() -> None:
    expected = list(ParameterGrid(dict(SMOKE_GRID)))
    random.Random(42).shuffle(expected)
    points = points_of(TOY, replace(HEAREVAL, grid=SMOKE_GRID, grid_points=1000))
    assert points == tuple(Point(**values) for values in expected)
    assert len(set(points)) == 64


def test_a_hyperparameter_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TaskError, match="sets 'momentum', which is no hyperparameter"):
        points_of(replace(TOY, param_grid={"momentum": (0.9,)}), HEAREVAL)


def test_one_shuffle_runs_through_all_splits() -> None:
    ordered = embedding_order({"train": range(9), "valid": range(9)})
    assert sorted(ordered["train"]) == sorted(ordered["valid"]) == list(range(9))
    assert ordered["train"] != ordered["valid"]
    assert ordered["train"] == embedding_order({"train": range(9)})["train"]


def test_a_generator_goes_on_where_it_was_written_down() -> None:
    with own_generators(CPU):
        torch.manual_seed(3)
        draw_made_up_batch(5)
        written = generator_state(CPU)
        after = torch.rand(4)
        torch.manual_seed(0)
        draw_loader_seed()
        set_generator_state(written, CPU)
        assert torch.equal(torch.rand(4), after)


def test_a_block_with_generators_of_its_own_leaves_the_others_alone() -> None:
    before = torch.get_rng_state()
    with own_generators(CPU):
        torch.manual_seed(3)
        torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)


def test_trainings_of_their_own_have_seeds_of_their_own() -> None:
    assert len({training_seed(seed, index) for seed in range(20) for index in range(20)}) == 400


def test_protocols_are_found_by_name() -> None:
    assert {name: protocol.name for name, protocol in RECIPES.items()} == {
        "heareval": "heareval", "fast": "fast", "robust": "robust",
    }  # fmt: skip
