"""The page of similar sounds in a real browser."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import Browser, find_browser

from audio_barlow_twins.eval.share.similar import PLAYED_S, listening_page
from audio_barlow_twins.shards.stored.front_end import FrontEnd

DEMO = Path(__file__).parents[3] / "ingest" / "sources" / "demo" / "audio"
HOSTILE = "<img src=x onerror=alert(1)> & a name that is much longer than a phone is wide.opus"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some sounds: real ones, a click of three samples, and one longer than a page plays."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "bells").mkdir()
    for number, sound in enumerate(sorted((DEMO / "bell").glob("*.opus"))[:3]):
        shutil.copy(sound, folder / "bells" / f"{number}{HOSTILE if number else '.opus'}")
    soundfile.write(folder / "click.wav", np.array([0, 0.5, 0]), 16000)
    soundfile.write(folder / "long.wav", np.zeros((PLAYED_S + 5) * 8000), 8000)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page; one of the sounds has gone."""
    files = [*sorted(path for path in folder.rglob("*") if path.is_file()), folder / "gone.wav"]
    nearest = [(file, 0.9 - 0.1 * i) for i, file in enumerate(files[1:])]
    path = tmp_path_factory.mktemp("page") / "similar.html"
    path.write_text(listening_page(files[0], nearest, FrontEnd(), folder), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Find a browser."""
    return find_browser(tmp_path_factory.mktemp("browser"))


@pytest.mark.parametrize("width", [360, 1100])
def test_every_sound_can_be_played_seen_and_told_apart(
    page: Path, browser: Browser, folder: Path, width: int
) -> None:
    program = """
      const all = name => [...document.querySelectorAll(name)];
      return {
        width: document.documentElement.scrollWidth,
        names: all("figcaption b").map(each => each.textContent),
        about: all("figcaption span").map(each => each.textContent),
        seconds: all("audio").map(each => each.duration),
        players: all("audio").map(each => each.getBoundingClientRect().width),
        pictures: all("figure img").map(each => each.naturalHeight),
        said: all("figure p").map(each => each.textContent),
      };
    """
    seen = browser.measure(page, program, width=width)
    assert seen["width"] <= width
    bells = [f"bells/1{HOSTILE}", f"bells/2{HOSTILE}"]
    assert seen["names"] == ["0.opus", *bells, "click.wav", "long.wav", "gone.wav"]
    assert seen["about"][1:] == [f"cosine {0.9 - 0.1 * i:.4f}" for i in range(5)]
    assert seen["pictures"] == [64] * 5
    assert seen["seconds"][-1] == PLAYED_S
    assert min(seen["players"]) > 250  # narrower ones lose their buttons
    assert seen["said"] == [f"{folder}/gone.wav: cannot be opened: No such file or directory"]


def test_the_browser_has_nothing_to_complain_of(page: Path, browser: Browser) -> None:
    dom, console = browser.dom(page)
    assert "Nearest first" in dom
    assert console == []
