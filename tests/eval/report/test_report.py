"""The files of a report, read back: words, Markdown, CSV."""

import csv
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from made_reports import published, report, reports_of, result

from audio_barlow_twins.eval.embed.embedded import Embedded
from audio_barlow_twins.eval.probe.evaluate import evaluate
from audio_barlow_twins.eval.probe.recipe import HEAREVAL, ROBUST, ProbeRecipe
from audio_barlow_twins.eval.report.comparison import compare
from audio_barlow_twins.eval.report.details import scores_csv
from audio_barlow_twins.eval.report.folder import write_report
from audio_barlow_twins.eval.report.published import AUTHORS, LEADERBOARD, PAPER, read_published
from audio_barlow_twins.eval.report.scores import TaskReport, score_table
from audio_barlow_twins.eval.report.words import headline, notes, warnings
from audio_barlow_twins.eval.tasks.metadata import TaskMetadata
from audio_barlow_twins.shards.base.errors import UserError

OURS, BASE = "checkpoint", "random init"
FILES = ["report.html", "report.md", "scores.csv"]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def markdown_table(text: str, heading: str) -> dict[str, dict[str, str]]:
    """Read the first table below a heading, by its first column."""
    lines = text.split(f"## {heading}\n")[1].strip().split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head, _, *body = rows
    return {row[0]: dict(zip(head, row, strict=True)) for row in body}


@pytest.fixture(scope="module")
def reports() -> list[TaskReport]:
    """All tasks of the paper, with the scores of its authors."""
    return reports_of(
        {OURS: published("ABT AudioNTT"), BASE: published("AudioNTT, random init", AUTHORS)}
    )


@pytest.fixture(scope="module")
def text(reports: list[TaskReport], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `report.md` says of them."""
    out = tmp_path_factory.mktemp("report")
    write_report(out, reports, {"step": 3}, HEAREVAL, command="abt eval hear")
    return (out / "report.md").read_text()


class TestWords:
    """What stands at the top."""

    def test_the_first_sentence_compares_with_random_weights(
        self, reports: list[TaskReport]
    ) -> None:
        # The columns of the CSV sum to 12.404 and 11.351.
        first = headline(compare(reports, (), ()), HEAREVAL)[0]
        assert first == (
            "checkpoint: 68.9 % on average over 18 tasks, 9.3 % more than random init (63.1 %); "
            "it is better on 14 of 18."
        )

    def test_the_second_names_the_best_published_system(self, reports: list[TaskReport]) -> None:
        second = headline(compare(reports, (), read_published()), HEAREVAL)[1]
        assert "over the 18 tasks of the paper among them: GURA Fuse Cat H+w+C, 77.6 %" in second
        assert second.endswith("checkpoint is 8.7 points below it.")

    def test_the_last_says_how_often_was_tested(self, reports: list[TaskReport]) -> None:
        said = headline(compare(reports, (), ()), HEAREVAL)[-1]
        assert said == "Protocol heareval: 1 seed, 1 to 10 test sets a task."

    def test_seeds_that_are_still_missing_are_not_counted(self) -> None:
        systems = {OURS: result([[0.5], [0.6]]), BASE: result([[0.5]])}
        running = replace(report({}), systems=systems)
        said = headline(compare([running], (), ()), ROBUST)[-1]
        assert said == "Protocol robust: 1 to 2 seeds, 1 test set a task."

    def test_a_complete_report_warns_of_nothing(self, reports: list[TaskReport]) -> None:
        assert warnings(compare(reports, (), ())) == []

    def test_few_tasks_and_small_ones_are_named(self) -> None:
        said = warnings(compare([report({OURS: [0.5]}, n_clips=60)], (), ()))
        assert said == [
            "0 of the paper's 18 tasks have been scored; an average over so few says little.",
            "toy-v1-full is no task of the paper and has just 60 clips.",
        ]

    def test_missing_and_undefined_scores_are_named(self) -> None:
        reports = [
            report({OURS: [math.nan], "CREPE": [0.5]}),
            report({OURS: [0.5]}, task="b-v1-full"),
        ]
        said = warnings(compare(reports, (), ()))
        assert said[1] == (
            "CREPE has 1 of 2 tasks, without b-v1-full; averages are over the tasks that all have."
        )
        assert said[2].startswith("checkpoint has no score on toy-v1-full (NaN: no event")

    def test_a_folder_that_only_bears_the_name_is_called_out(self) -> None:
        other = report({OURS: [0.5]}, task="esc50-v2.0.0-full", differences=("4 labels, not 50",))
        assert any(
            "no published score is shown beside it: 4 labels, not 50." in line
            for line in warnings(compare([other], (), read_published()))
        )

    def test_the_notes_say_what_a_protocol_does(self) -> None:
        comparison = compare([report({OURS: [0.5]})], (), ())
        assert "training batches are never shuffled" in " ".join(notes(comparison, HEAREVAL))
        assert "training batches are shuffled" in " ".join(notes(comparison, ROBUST))

    def test_nothing_at_all_is_said_to_be_nothing(self) -> None:
        assert headline(compare([], (), ()), HEAREVAL) == ["Nothing has been scored yet."]


class TestMarkdown:
    """`report.md`."""

    def test_averages_are_by_group(self, text: str) -> None:
        # The paper's printed scores, averaged by hand.
        row = markdown_table(text, "Averages")[OURS]
        assert {name: row[name] for name in list(row)[1:6]} == {
            "speech (6)": "59.4", "environmental (3)": "72.2", "music (7)": "83.8",
            "events (2)": "40.5", "all (18)": "68.9",
        }  # fmt: skip
        assert (row["over random"], row["its own tasks"]) == ("+9.3 %", "68.9 (18 of 18)")
        assert row["HEAR-L, LibriCount (5)"] == "68.3"
        assert row["HEAR-L, Speech Commands 5h (5)"] == "71.1"

    def test_every_task_has_a_row(self, text: str) -> None:
        lines = text.split("## Scores by task\n")[1].split("Published by")[0].splitlines()
        assert sum(line.startswith("| ") for line in lines) == 1 + 1 + 18
        assert sum(line.startswith("| music |") for line in lines) == 7

    def test_it_says_whose_the_published_scores_are_and_how_it_was_made(self, text: str) -> None:
        assert f"{PAPER}: CREPE; wav2vec 2.0; BYOL-A*; ABT AudioNTT; ABT ViT_C-B 16x8." in text
        assert "- command: `abt eval hear`" in text
        assert f"torch {torch.__version__.split('+')[0]}" in text

    def test_a_name_cannot_break_the_table(self, tmp_path: Path) -> None:
        write_report(tmp_path, [report({"a|b": [0.5]})], {}, HEAREVAL, ())
        text = (tmp_path / "report.md").read_text()
        assert text.count("a\\|b") >= 2


class TestCsv:
    """`scores.csv`."""

    def test_mean_and_deviation_are_over_folds_with_one_seed_and_over_seeds_with_more(self) -> None:
        one, several = [[0.5, 0.6, 0.9]], [[0.5, 0.7], [0.8, 0.4], [0.9, 0.9]]
        for values in (one, several):
            made = replace(report({}), systems={OURS: result(values, aucroc=0.75)})
            first, second = read_csv(scores_csv(compare([made], (), ()), ()))
            exact = np.array(values[0]) if len(values) == 1 else np.mean(values, axis=1)
            assert float(first["mean"]) == pytest.approx(exact.mean())
            assert float(first["std"]) == pytest.approx(exact.std(ddof=1))
            assert (second["score"], float(second["mean"])) == ("aucroc", 0.75)
            assert first["seeds"] == " ".join(str(i) for i in range(len(values)))
            assert first["n_folds"] == str(len(values[0]))

    def test_a_single_test_set_has_no_deviation_and_nan_stays_nan(self) -> None:
        (row,) = read_csv(scores_csv(compare([report({OURS: [math.nan]})], (), ()), ()))
        assert (row["mean"], row["std"]) == ("nan", "")

    def test_published_scores_of_the_same_tasks_follow(self, reports: list[TaskReport]) -> None:
        comparison = compare(reports[:1], (), read_published())
        rows = read_csv(scores_csv(comparison, read_published()))
        listed = {row["system"]: row for row in rows if row["source"] == LEADERBOARD}
        assert len(listed) == 33  # one lacks CREMA-D
        assert listed["OpenL3"]["mean"] == "0.549741"
        assert {row["task"] for row in rows} == {reports[0].task}
        assert {row["group"] for row in rows} == {"speech"}


class TestFolder:
    """The three files together."""

    def test_they_are_written_of_whatever_is_there(self, tmp_path: Path) -> None:
        partial = [report({OURS: [0.5]}), report({}, task="b-v1-full")]
        for reports in ([], partial[:1], partial):
            write_report(tmp_path / "new" / "report", reports, {}, HEAREVAL)
            assert sorted(path.name for path in (tmp_path / "new/report").iterdir()) == FILES

    def test_a_place_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot be written"):
            write_report(tmp_path / "file", [report({OURS: [0.5]})], {}, HEAREVAL)

    def test_a_real_evaluation_is_reported_with_its_numbers(self, tmp_path: Path) -> None:
        metadata = TaskMetadata(
            name="toy-v1-full", task_name="toy", embedding_type="scene",
            prediction_type="multiclass", split_mode="new_split_kfold",
            splits=("fold00", "fold01", "fold02"), evaluation=("top1_acc", "mAP"),
            labels=("a", "b"),
        )  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        splits = {}
        for split in metadata.splits:
            targets = torch.eye(2).repeat(20, 1)
            embeddings = torch.randn(40, 8, generator=generator) + 0.5 * targets[:, :1]
            splits[split] = Embedded(embeddings, targets)
        protocol = ProbeRecipe(
            name="smoke", grid={"hidden_dim": (64,), "max_epochs": (10,), "lr": (1e-3, 1e-4)}
        )
        found = evaluate(metadata, splits, protocol)
        made = TaskReport(task="toy-v1-full", score="top1_acc", n_clips=120, n_folds=3, chance=0.5,
                          systems={OURS: found})  # fmt: skip
        write_report(tmp_path, [made], {}, protocol)
        top1, precision = read_csv((tmp_path / "scores.csv").read_text())
        assert (float(top1["mean"]), float(top1["std"])) == (found.mean, found.std)
        assert precision["score"] == "mAP"
        assert f"{100 * found.mean:.1f}" in (tmp_path / "report.md").read_text()


def test_the_plain_table_shows_what_is_missing_as_a_dash() -> None:
    reports = [
        report({OURS: [0.5, 0.7], "CREPE": [0.25]}), report({OURS: [0.5]}, task="b-v1-full"),
    ]  # fmt: skip
    lines = {line.split("  ")[0]: line.split() for line in score_table(reports).splitlines()}
    assert lines["CREPE"] == ["CREPE", "25.0", "-"]
    assert lines[OURS] == [OURS, "60.0", "±", "14.1", "50.0"]
