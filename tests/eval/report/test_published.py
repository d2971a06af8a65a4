"""The published scores, against each other: three sources were copied apart from one another."""

import csv
from pathlib import Path

import pytest
from made_reports import published, reports_of

from audio_barlow_twins.eval.report import published as published_module
from audio_barlow_twins.eval.report.comparison import HEAR_L, Cell, Row, compare
from audio_barlow_twins.eval.report.published import (
    AUTHORS,
    GROUPS,
    LEADERBOARD,
    PAPER,
    group_of,
    main_anchors,
    read_published,
)
from audio_barlow_twins.eval.tasks.suite import PAPER_TASKS
from audio_barlow_twins.shards.base.errors import UserError

TASKS = {task.folder: task for task in PAPER_TASKS}
SCENES = [task for task in PAPER_TASKS if task.embedding_type == "scene"]
ABLATION = Path(published_module.__file__).parents[2] / "train" / "ablation" / "published.csv"


def test_every_score_is_a_fraction_of_a_score_that_the_task_asks_for() -> None:
    for each in read_published():
        for (task, name), value in each.scores.items():
            assert name in TASKS[task].evaluation
            assert 0 <= value <= 1


def test_the_papers_tables_have_every_task() -> None:
    tables = [each for each in read_published() if each.source == PAPER]
    assert len(tables) == 5
    for each in tables:
        assert {task for task, _ in each.scores} == TASKS.keys()


def test_the_sources_hold_as_many_models_as_they_name() -> None:
    sources = [each.source for each in read_published()]
    assert (sources.count(AUTHORS), sources.count(LEADERBOARD)) == (11, 34)


@pytest.mark.parametrize("model", ["CREPE", "wav2vec 2.0"])
def test_the_paper_prints_the_leaderboards_scene_scores(model: str) -> None:
    printed, listed = published(model), published(model, LEADERBOARD)
    for task in SCENES:
        key = (task.folder, task.evaluation[0])
        assert printed.scores[key] == pytest.approx(listed.scores[key], abs=0.00051)


@pytest.mark.parametrize("model", ["ABT AudioNTT", "ABT ViT_C-B 16x8"])
def test_the_paper_prints_what_the_authors_code_holds(model: str) -> None:
    printed, held = published(model), published(model, AUTHORS)
    assert len(held.scores) >= len(SCENES)
    for key, value in held.scores.items():
        # One score is cut off instead of rounded.
        assert printed.scores[key] == pytest.approx(value, abs=0.00065)


# Group averages that stand in the authors' hear/results.json, beside the scores themselves.
@pytest.mark.parametrize(
    ("model", "averages"),
    [
        ("ABT AudioNTT",
         {"environmental": 0.7218, "speech": 0.5944, "music": 0.8376, "events": 0.4046}),
        ("ABT ViT_C-T 16x8", {"environmental": 0.5902, "speech": 0.4873, "music": 0.7145}),
        ("ViT_C-S 16x8, random init",
         {"environmental": 0.3850, "speech": 0.2041, "music": 0.6471, "events": 0.3872}),
    ],
)  # fmt: skip
def test_group_averages_are_those_that_the_authors_computed(
    model: str, averages: dict[str, float]
) -> None:
    comparison = compare(reports_of({model: published(model, AUTHORS)}), (), ())
    (row,) = comparison.runs
    groups = comparison.groups(comparison.shared([row]))
    assert {group: row.average(tasks) for group, tasks in groups.items()} == {
        group: pytest.approx(value, abs=6e-5) for group, value in averages.items()
    }


def test_the_papers_average_comes_out_with_speech_commands_in_the_small_set() -> None:
    lines = [line for line in ABLATION.read_text().splitlines() if line[0] != "#"]
    cells = {
        row["task"]: Cell(mean=float(row["score"]))
        for row in csv.DictReader(lines)
        if row["cell"] == "mixup+rrc+rlf"
    }
    row = Row(name="Mixup+RRC+RLF", cells=cells)
    assert f"{row.average(HEAR_L['HEAR-L, Speech Commands 5h']):.1%}" == "68.7%"


def test_the_small_set_of_the_footnote_has_libricount_instead() -> None:
    footnote, published_one = map(set, HEAR_L.values())
    assert footnote - published_one == {"libricount-v1.0.0-hear2021-full"}
    assert published_one - footnote == {"speech_commands-v0.0.2-5h"}
    assert len(footnote) == len(published_one) == 5


def test_every_task_of_the_paper_is_in_one_group_and_others_are_in_their_own() -> None:
    assert sum(len(some) for some in GROUPS.values()) == 18
    assert {group_of(task) for task in TASKS} == GROUPS.keys()
    assert group_of("drums-v1-full") not in GROUPS


def test_the_anchors_are_the_papers_tables_and_their_random_baselines() -> None:
    names = [anchor.model for anchor in main_anchors(read_published())]
    assert names == [
        "CREPE", "wav2vec 2.0", "BYOL-A*", "ABT AudioNTT", "ABT ViT_C-B 16x8",
        "AudioNTT, random init", "ViT_C-B 16x8, random init",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no scores; wanted columns model, task, score_name, score, source, note"),
        ("model,score\na,1\n", "wanted columns"),
        ("# by me\nmodel,task,score_name,score,source,note\na,t,mAP,high,me,\n",
         "score of a on t is 'high'; wanted a number"),
        ("model,task,score_name,score,source,note\na,t,mAP\n", "score of a on t is None"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_published(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv: published scores cannot be read"):
        read_published(tmp_path / "nowhere.csv")
