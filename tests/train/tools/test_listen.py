"""The listening page: sounds that play, pictures, what was done in words; in a real browser."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import Browser, find_browser

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import wave_form
from audio_barlow_twins.train.tools.listen import Listen, at_strength
from audio_barlow_twins.train.views.base import WaveView
from audio_barlow_twins.train.views.registry import default_views
from audio_barlow_twins.train.views.time import PitchShift

SECONDS = 0.5
VIEWS = default_views(WaveView)
MILD = {
    (name, option): span.mild
    for name, view in VIEWS.items()
    for option, span in view.spans.items()
    if span.mild is not None
}
SOUNDS = 4 * len({name for name, _ in MILD}) + 2
"""The clip and three strengths of every view; polarity has one."""


@pytest.fixture(scope="module")
def long_waves(
    tmp_path_factory: pytest.TempPathFactory,
    demo_waves: dict[str, np.ndarray],
    write_set: Callable[..., Path],
) -> Path:
    """Write twelve demo clips, some of them short, as a wave set."""
    chosen = {key: demo_waves[key] for key in list(demo_waves)[::19]}
    return write_set(tmp_path_factory.mktemp("waves"), wave_form(), chosen)


@pytest.fixture(scope="module")
def page(long_waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of all views for one clip."""
    out = tmp_path_factory.mktemp("page") / "listen.html"
    Listen(shards=str(long_waves), out=out, clips=1, seconds=SECONDS).run()
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Find a browser."""
    return find_browser(tmp_path_factory.mktemp("browser"))


def test_the_page_shows_every_view_at_three_strengths(page: Path) -> None:
    text = page.read_text()
    assert re.findall("<h2>(.*?)</h2>", text) == list(VIEWS)
    assert text.count("<audio") == SOUNDS
    assert "http://" not in text
    assert "pitch -100 cents" in text or "pitch +100 cents" in text


def test_every_sound_plays_and_every_picture_shows(page: Path, browser: Browser) -> None:
    found = browser.measure(
        page,
        """
        const sounds = [...document.querySelectorAll("audio")];
        const images = [...document.querySelectorAll("img")];
        return {seconds: sounds.map(s => s.duration), named: sounds.every(s => s.ariaLabel),
                wide: images.map(i => i.naturalWidth),
                links: [...document.querySelectorAll("a")].filter(
                    a => document.querySelector(a.getAttribute("href"))).length};
        """,
    )
    assert found["seconds"] == [pytest.approx(SECONDS, abs=0.01)] * SOUNDS
    assert found["named"]
    assert found["links"] == len(VIEWS)
    assert set(found["wide"]) == {51}


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_is_wider_than_the_screen(page: Path, browser: Browser, width: int) -> None:
    program = "return document.documentElement.scrollWidth"
    assert browser.measure(page, program, width=width) <= width


def test_the_browser_has_nothing_to_complain_of(page: Path, browser: Browser) -> None:
    assert browser.dom(page)[1] == []


def test_every_view_but_polarity_can_be_mild() -> None:
    assert {*VIEWS} - {name for name, _ in MILD} == {"polarity"}


@pytest.mark.parametrize(("name", "option"), MILD)
def test_strengths_lead_from_mild_to_the_further_end_of_the_range(name: str, option: str) -> None:
    view, mild = VIEWS[name], MILD[name, option]
    values = [getattr(at_strength(view, strength), option)[0] for strength in (1 / 3, 2 / 3, 1)]
    far = np.abs(np.array([mild, *values]) - mild)
    assert np.all(np.diff(far) > 0)
    assert values[-1] in getattr(view, option)


def test_a_view_of_log_mel_cannot_be_heard() -> None:
    with pytest.raises(UserError, match=r"no view is called 'mixup'; choose from .*gain"):
        Listen(views=("mixup",))


def test_files_and_keys_can_be_named(
    long_waves: Path, demo_waves: dict[str, np.ndarray], tmp_path: Path
) -> None:
    key = next(iter(demo_waves))
    soundfile.write(tmp_path / "mine.wav", demo_waves[key], 16000)
    config = Listen(
        clip=(str(tmp_path / "mine.wav"), key), shards=str(long_waves), out=tmp_path / "page.html",
        views=("pitch-shift",), ranges={"pitch-shift": PitchShift(cents=(0, 700))},
        seconds=SECONDS,
    )  # fmt: skip
    config.run()
    text = (tmp_path / "page.html").read_text()
    assert "pitch +700 cents" in text
    assert text.count("mine.wav: strongest") > 0
    assert text.count(f"{key}: strongest") > 0


def test_an_unknown_clip_is_one_line_and_leaves_no_page(long_waves: Path, tmp_path: Path) -> None:
    config = Listen(clip=("nothing",), shards=str(long_waves), out=tmp_path / "page.html")
    with pytest.raises(UserError, match="nothing is neither a file nor a key of"):
        config.run()
    assert not config.out.exists()
