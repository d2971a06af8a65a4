"""A real browser for the tests of pages: headless Chromium, a fresh profile for every question."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
_POLICY = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>')
_MEASURE = """
<script>
addEventListener("load", async () => {
  const settle = audio => new Promise(done => {
    if (audio.readyState >= 1 || audio.error) return done();
    for (const name of ["loadedmetadata", "error"]) audio.addEventListener(name, done);
  });
  await Promise.all([...document.querySelectorAll("audio")].map(settle));
  parent.postMessage(JSON.stringify((() => { %s })()), "*");
});
</script>
"""
# No window is narrower than 500 pixels, but a frame inside it is.
_FRAME = """<!DOCTYPE html><body style="margin: 0"><pre id="measured"></pre>
<script>
addEventListener("message", event => {
  document.getElementById("measured").textContent = event.data;
});
</script>
<iframe src="%s" style="position: absolute; inset: 0; border: 0; width: %dpx; height: %dpx">
</iframe>
"""


@dataclass(frozen=True)
class Browser:
    """Chromium on one page after the other; `folder` takes its profiles and what it makes."""

    program: str
    folder: Path

    def _run(self, page: Path, *options: str, width: int, height: int = 900) -> tuple[str, str]:
        number = len(list(self.folder.glob("profile*")))
        profile = self.folder / f"profile{number}"
        profile.mkdir()
        command = [
            *(self.program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--proxy-server=127.0.0.1:9", "--hide-scrollbars", "--virtual-time-budget=10000"),
            *("--enable-logging=stderr", f"--window-size={width},{height}"),
            *(f"--user-data-dir={profile}", *options, page.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout, done.stderr

    def dom(self, page: Path) -> tuple[str, list[str]]:
        """Return a page's DOM once it has settled, and the lines of its console."""
        out, log = self._run(page, "--dump-dom", width=1000)
        return out, [line for line in log.splitlines() if ":CONSOLE" in line]

    def measure(self, page: Path, program: str, width: int = 1000) -> Any:
        """Return what a JavaScript function body returns in a copy of the page.

        The copy lacks the page's policy, which forbids scripts, and all sounds are loaded before.
        """
        text = _POLICY.sub("", page.read_text(encoding="utf-8"))
        copy = self.folder / f"copy-{page.name}"
        copy.write_text(text.replace("</body>", _MEASURE % program + "</body>"), encoding="utf-8")
        out, log = self._run(self._framed(copy, width, 900), "--dump-dom", width=1200)
        found = re.search('<pre id="measured">(.+?)</pre>', out, re.DOTALL)
        assert found, log
        return json.loads(html.unescape(found[1]))

    def screenshot(
        self, page: Path, target: Path, width: int, height: int = 900, dark: bool = False
    ) -> Path:
        """Take a picture of a frame with the page in it."""
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        framed = self._framed(page, width, height)
        self._run(framed, f"--screenshot={target}", scheme, width=width, height=height)
        return target

    def _framed(self, page: Path, width: int, height: int) -> Path:
        frame = self.folder / f"frame-{width}-{page.name}"
        frame.write_text(_FRAME % (page.as_uri(), width, height), encoding="utf-8")
        return frame


def find_browser(folder: Path) -> Browser:
    """Return the browser of this machine, or skip the test."""
    for name in NAMES:
        if program := shutil.which(name):
            return Browser(program, folder)
    pytest.skip(f"no browser on the PATH: install one of {', '.join(NAMES)}")
