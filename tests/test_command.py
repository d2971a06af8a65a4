"""The command `abt` as a whole: help of every command, modules of the user's, paths in the way."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from audio_barlow_twins.command import COMMANDS, run
from audio_barlow_twins.shards.base.cli import Commands
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.base.files import make_folder, make_folder_of

ABT = Path(sys.executable).with_name("abt")
PROGRAMS = [ABT], [sys.executable, "-m", "audio_barlow_twins"]
HEAR = """
def load_model(path=""):
    raise SystemExit("loaded from here")
"""


def leaves(commands: Commands, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """List all commands that are not tables of others."""
    for name, command in commands.items():
        found = command.load()
        if isinstance(found, Mapping):
            yield from leaves(found, (*before, name))
        else:
            yield *before, name


@pytest.mark.parametrize("words", list(leaves(COMMANDS)), ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run([*words, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: abt {' '.join(words)}")


@pytest.mark.parametrize("program", PROGRAMS, ids=["abt", "python -m"])
class TestModules:
    """Modules in the working directory, which `import` of an installed program does not see."""

    def call(self, program: list[str | Path], folder: Path, *words: str) -> tuple[int, str, str]:
        done = subprocess.run([*program, *words], cwd=folder, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def test_a_hear_module_is_found(self, program: list[str | Path], tmp_path: Path) -> None:
        (tmp_path / "my_hear.py").write_text(HEAR)
        _, out, error = self.call(program, tmp_path, "eval", "validate", "my_hear")
        assert "loaded from here" in out + error

    @pytest.mark.parametrize("name", ["nosuch", "nosuch.views", "my_views.py"])
    def test_one_that_is_not_there_is_one_line(
        self, program: list[str | Path], tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "my_views.py").touch()
        code, out, error = self.call(program, tmp_path, "--import", name, "model")
        assert (code, out) == (2, "")
        assert error.startswith(f"error: --import {name}: there is no such module")
        assert len(error.splitlines()) == 1

    def test_what_a_users_module_lacks_is_its_own_error(
        self, program: list[str | Path], tmp_path: Path
    ) -> None:
        (tmp_path / "my_views.py").write_text("import nosuch\n")
        code, _, error = self.call(program, tmp_path, "--import", "my_views", "model")
        assert code == 1
        assert "No module named 'nosuch'" in error


class TestPlaces:
    """Outputs for which something else is in the way."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "file").write_text("kept")
        return tmp_path / "file"

    def test_a_file_is_no_folder(self, file: Path) -> None:
        for place in (file, file / "below", file / "far" / "below"):
            with pytest.raises(UserError, match="cannot be made a folder"):
                make_folder(place)
            with pytest.raises(UserError, match="cannot be made a folder"):
                make_folder_of(place / "x")
        assert file.read_text() == "kept"

    def test_a_folder_is_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for place in (tmp_path, Path()):
            with pytest.raises(UserError, match="is a folder; name a file"):
                make_folder_of(place)
        assert not list(tmp_path.iterdir())

    def test_commands_say_it_in_one_line(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "sound").mkdir()
        (tmp_path / "sound" / "a.wav").touch()
        done = subprocess.run(
            [ABT, "ingest", "folder", tmp_path / "sound", "--out", file],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == f"error: {file} cannot be made a folder: File exists\n"
        assert file.read_text() == "kept"


@pytest.mark.parametrize(
    ("given", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_threads_that_wait_sleep_unless_it_is_said_otherwise(
    given: dict[str, str], policy: str
) -> None:
    plain = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-m", "audio_barlow_twins", "model", "audiontt"],
        env=plain | {"OMP_DISPLAY_ENV": "TRUE", **given},
        capture_output=True,
        text=True,
        check=True,
    )
    told = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    assert told, "this OpenMP does not tell its settings"
    assert all(policy in line for line in told)
