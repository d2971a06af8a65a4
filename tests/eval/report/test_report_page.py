"""The page of a report in a real browser: all of it there, on a phone and in the dark, too."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, find_browser
from made_reports import published, report, reports_of, result
from PIL import Image

from audio_barlow_twins.eval.probe.recipe import HEAREVAL, ROBUST
from audio_barlow_twins.eval.report.folder import write_report
from audio_barlow_twins.eval.report.published import AUTHORS
from audio_barlow_twins.eval.report.scores import TaskReport
from audio_barlow_twins.eval.tasks.suite import PAPER_TASKS

OURS, BASE = "checkpoint", "random init"
HOSTILE = "</td><script>hacked=1</script><img src='http://127.0.0.1:9/x' onerror='hacked=1'>"
LONG = "a-very-long-name-of-a-system-" * 4
ANCHORS = 7


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of 18 tasks, one of ours, four systems, and some holes."""
    out = tmp_path_factory.mktemp("report")
    reports = reports_of(
        {
            OURS: published("ABT AudioNTT"),
            BASE: published("AudioNTT, random init", AUTHORS),
            HOSTILE: published("CREPE"),
            LONG: published("wav2vec 2.0"),
        }
    )
    reports.append(report({OURS: [0.5, 0.7], BASE: [math.nan, 0.25]}, task=HOSTILE, n_clips=40))
    facts = {"checkpoint": HOSTILE, "front_end": {"n_mels": 64}}
    write_report(out, reports, facts, HEAREVAL, command=f"abt eval {LONG}")
    return out / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Find a browser."""
    return find_browser(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module", params=[360, 1100])
def seen(request: pytest.FixtureRequest, page: Path, browser: Browser) -> dict[str, Any]:
    """Ask Chromium what it makes of the page, with all that is folded opened."""
    program = """
      const all = name => [...document.querySelectorAll(name)];
      const box = each => each.getBoundingClientRect();
      all("details").forEach(each => each.open = true);
      all(".scores").forEach(each => each.scrollLeft = 300);
      const main = all(".scores")[1];
      return {
        hacked: typeof hacked, width: document.documentElement.scrollWidth, inner: innerWidth,
        loaded: performance.getEntriesByType("resource").map(each => each.name),
        rows: [...main.querySelectorAll("tbody tr")].map(
          row => [...row.children].map(cell => cell.innerText.replace(/\\s+/g, " ").trim())),
        columns: [...main.querySelectorAll("thead tr:last-child th")].map(
          each => each.childNodes[0].textContent),
        sticky: box(main.querySelector("tbody th")).left - box(main).left,
        scrolls: main.scrollWidth > main.clientWidth,
        cut: all("section *").filter(each => !each.closest(".wide")
          && box(each).right > innerWidth + 0.5).map(each => each.outerHTML),
        charts: all("svg").map(svg => ({
          title: svg.querySelector("title").textContent,
          described: svg.querySelector("desc").textContent,
          width: box(svg).width,
          names: [...svg.querySelectorAll("text")].map(each => each.textContent),
          bars: [...svg.querySelectorAll("rect:not(.track)")].map(each => box(each).width),
        })),
        folded: all("details").length,
      };
    """
    return browser.measure(page, program, width=request.param)


class TestInABrowser:
    """What a reader sees."""

    def test_nothing_is_wrong_in_the_console_and_nothing_is_loaded(
        self, page: Path, browser: Browser, seen: dict[str, Any]
    ) -> None:
        assert browser.dom(page)[1] == []
        assert seen["loaded"] == []

    def test_names_never_become_markup(self, seen: dict[str, Any]) -> None:
        assert seen["hacked"] == "undefined"
        assert any(row[0] == HOSTILE for row in seen["rows"])

    def test_only_tables_are_wider_than_the_screen_and_scroll_by_themselves(
        self, seen: dict[str, Any]
    ) -> None:
        assert seen["width"] <= seen["inner"]
        assert seen["cut"] == []
        assert seen["scrolls"]

    def test_names_of_systems_stay_in_sight_of_a_scrolled_table(self, seen: dict[str, Any]) -> None:
        assert abs(seen["sticky"]) < 1

    def test_every_system_and_task_is_in_the_table(self, seen: dict[str, Any]) -> None:
        assert len(seen["columns"]) == 1 + len(PAPER_TASKS) + 1
        names = [row[0] for row in seen["rows"]]
        assert names[:6] == [OURS, BASE, HOSTILE, LONG, "chance", "published"]
        assert len(names) == 6 + ANCHORS
        assert {len(row) for row in seen["rows"]} == {20, 2}

    def test_a_hole_is_a_dash_and_an_undefined_score_says_so(self, seen: dict[str, Any]) -> None:
        rows = {row[0]: row for row in seen["rows"]}
        assert rows[OURS][-1] == "60.0 ± 14.1"
        assert rows[BASE][-1] == "25.0"
        assert rows[LONG][-1] == "-"

    def test_every_task_has_a_chart_whose_bars_are_as_long_as_their_scores(
        self, seen: dict[str, Any]
    ) -> None:
        average, *charts = seen["charts"]
        assert len(charts) == len(PAPER_TASKS) + 1
        assert len(average["bars"]) == 4 + ANCHORS
        crema = charts[0]
        assert crema["title"] == "CREMA-D, top1_acc"
        exact = np.array([0.594, 0.509, 0.383, 0.656, 0.75208])  # the last is GURA Fuse Hubert's
        np.testing.assert_allclose(np.array(crema["bars"]) / crema["width"], exact, atol=2e-3)
        assert "checkpoint: 59.4" in crema["described"]
        assert "GURA Fuse Hubert: 75.2" in crema["described"]

    def test_every_task_and_the_other_published_systems_are_folded(
        self, seen: dict[str, Any]
    ) -> None:
        assert seen["folded"] == len(PAPER_TASKS) + 2


@pytest.mark.parametrize("width", [360, 1100])
def test_light_and_dark_are_legible(
    page: Path, browser: Browser, tmp_path: Path, width: int
) -> None:
    pictures = [
        np.asarray(Image.open(browser.screenshot(
            page, tmp_path / f"{dark}.png", width, dark=dark)).convert("L"), dtype=float)
        for dark in (False, True)
    ]  # fmt: skip
    for picture, darker in zip(pictures, (False, True), strict=True):
        ground, ink = np.median(picture), np.quantile(picture, 0.02 if not darker else 0.98)
        assert (ground < 64) == darker
        assert abs(ground - ink) > 100


def text_of(path: Path) -> str:
    markup = re.sub("<style>.*?</style>", "", path.read_text("utf-8"), flags=re.DOTALL)
    return " ".join(re.sub("<[^>]*>", " ", markup).split())


def test_the_best_of_each_part_is_marked(page: Path) -> None:
    table = page.read_text().split("<section><h2>Scores by task</h2>")[1].split("</table>")[0]
    runs, theirs = table.split(">published<")
    for part in (runs, theirs):
        # A task of ours alone has nothing published; ties are all marked.
        assert part.count('class="best"') >= len(PAPER_TASKS)


def test_an_error_rate_is_best_when_it_is_small(tmp_path: Path) -> None:
    name = "dcase2016_task2-hear2021-full"
    reports = [report({OURS: [0.2], BASE: [0.7]}, task=name, score="segment_1s_er")]
    write_report(tmp_path, reports, {}, HEAREVAL)
    table = (tmp_path / "report.html").read_text().split("Scores by task")[1]
    assert table.count('class="best"') == 1
    assert '<td class="best"><b>0.20</b>' in table


def test_details_hold_every_score_and_choice(tmp_path: Path) -> None:
    name = "dcase2016_task2-hear2021-full"
    made = result([[0.5, 0.75], [0.25, 0.5]], name, "event_onset_200ms_fms", event=True,
                  segment_1s_er=0.4)  # fmt: skip
    reports = [replace(report({}), task=name, n_folds=2, systems={OURS: made})]
    write_report(tmp_path, reports, {"encoder": "audiontt"}, ROBUST)
    details = text_of(tmp_path / "report.html").split("Behind each score")[1]
    assert "event_onset_200ms_fms segment_1s_er" in details
    assert "checkpoint 0.5000 ± 0.2041 0.4000 ± 0.0000" in details
    assert "checkpoint 0 2 xavier_uniform_ 0.00032 44 0.7500 250 125 1.00" in details
    assert "checkpoint 1 0.2500 0.5000" in details
    assert "encoder audiontt" in details


def test_a_report_of_nothing_is_a_page(tmp_path: Path) -> None:
    write_report(tmp_path, [], {}, HEAREVAL)
    assert "Nothing has been scored yet." in text_of(tmp_path / "report.html")


def test_published_scores_alone_are_a_page(tmp_path: Path) -> None:
    write_report(tmp_path, [report({}, task=PAPER_TASKS[0].folder)], {}, HEAREVAL)
    for text in (text_of(tmp_path / "report.html"), (tmp_path / "report.md").read_text()):
        assert "Nothing has been scored yet." in text
        assert "wav2vec 2.0" in text


def test_tasks_of_ones_own_have_no_published_part(tmp_path: Path) -> None:
    reports: list[TaskReport] = [report({OURS: [0.5], BASE: [0.25]})]
    write_report(tmp_path, reports, {}, HEAREVAL)
    text = text_of(tmp_path / "report.html")
    assert "Anton" not in text
    assert "100.0 % more than random init" in text
