"""What people install and how they start it: a wheel, an editable install, a bare checkout."""

import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("ingest", "shards", "model", "train", "eval")
OURS = "audio-barlow-twins"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

FACE = """
import sys
import audio_barlow_twins
assert "torch" not in sys.modules
from audio_barlow_twins import CropReader, LogMel, load_model, open_shards
from audio_barlow_twins.eval.hear import get_scene_embeddings
print(audio_barlow_twins.__file__)
"""
NEIGHBOURS = """
import eval, model, train
assert train.MINE and model.__path__[0] == {folder!r} + "/model", (train, model)
"""


def required(names: Iterable[str]) -> set[str]:
    """List distributions and all that they require, without extras."""
    found, waiting = set[str](), [*names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        plain = (each for each in requirements if ";" not in each)
        waiting += [re.split(r"[^\w.-]", each)[0].lower() for each in plain]
    return found


def link_packages(names: set[str], site: Path) -> None:
    """Put links to installed distributions into another environment."""
    for name in names:
        parts = {file.parts[0] for file in distribution(name).files or ()} - {".."}
        for part in parts:
            source = Path(str(distribution(name).locate_file(part)))
            if part != "__pycache__" and not (site / part).exists():
                (site / part).symlink_to(source)


def base_requirements() -> set[str]:
    """List what our package requires without extras, and what that requires."""
    requirements = distribution(OURS).requires or []
    plain = [each for each in requirements if "extra ==" not in each]
    return required(re.split(r"[^\w.-]", each)[0].lower() for each in plain)


class Environment:
    """A fresh virtual environment with the dependencies of the base install and nothing of ours."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        link_packages(base_requirements(), self.site)

    def pip(self, *words: str | Path) -> None:
        """Install into it without dependencies."""
        command = [sys.executable, "-m", "pip", "--python", self.python, "install", "--no-deps"]
        command += ["--quiet", "--disable-pip-version-check", *words]
        subprocess.run(command, check=True, capture_output=True)

    def run(self, folder: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run its Python, or a program of it, in a folder."""
        program, *others = words
        path = self.python.with_name(str(program))
        return subprocess.run(
            [path, *others],
            cwd=folder,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin"},
        )


def built(kind: str, folder: Path, source: Path = ROOT) -> Path:
    """Build a wheel by the hook that installers call: `build_wheel`, or `build_editable`."""
    program = f"import sys, hatchling.build; hatchling.build.{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, folder], cwd=source, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("installed"))
    environment.pip(wheel)
    return environment


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("editable"))
    environment.pip(built("build_editable", tmp_path_factory.mktemp("link")))
    return environment


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """Make a working directory with a user's own model/, eval/ and train.py."""
    for name in ("model", "eval"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").touch()
    (tmp_path / "train.py").write_text("MINE = True\n")
    return tmp_path


def test_the_wheel_holds_one_package_with_all_rooms_their_data_and_no_test(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"audio_barlow_twins"}
    files = {name.partition("/")[2] for name in names}
    tracked = subprocess.run(
        ["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(tracked.stdout.split()) <= files
    assert "py.typed" in files


def test_the_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    program = "import sys, hatchling.build; hatchling.build.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    (source,) = tmp_path.glob("*/pyproject.toml")
    again = built("build_wheel", tmp_path, source.parent)
    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize("kind", ["installed", "editable"])
class TestInstalled:
    """What holds in an environment with a wheel, and in one with an editable install."""

    @pytest.fixture
    def environment(self, kind: str, request: pytest.FixtureRequest) -> Environment:
        return request.getfixturevalue(kind)

    def test_a_users_own_model_eval_and_train_disturb_nobody_and_are_not_disturbed(
        self, environment: Environment, users_folder: Path
    ) -> None:
        program = FACE + NEIGHBOURS.format(folder=str(users_folder))
        done = environment.run(users_folder, "python", "-c", program)
        assert done.returncode == 0, done.stderr
        for words in (["abt"], ["python", "-m", "audio_barlow_twins"]):
            done = environment.run(users_folder, *words, "train", "demo", "--help")
            assert done.returncode == 0, done.stderr
            assert "usage: abt train demo" in done.stdout

    def test_mypy_sees_its_types(self, environment: Environment, tmp_path: Path) -> None:
        snippet = tmp_path / "snippet.py"
        snippet.write_text(
            "from audio_barlow_twins import load_model\n"
            "from audio_barlow_twins.shards import CropReader\n"
            "reveal_type(load_model)\nreveal_type(CropReader('x', frames=96, batch=1).batches())\n"
        )
        # The types of others are not looked into, which would take most of the time.
        (tmp_path / "mypy.ini").write_text(
            "[mypy]\n[mypy-torch.*,numpy.*,pyarrow.*,nnAudio.*]\nfollow_imports = skip\n"
        )
        command = [sys.executable, "-m", "mypy", "--python-executable", environment.python]
        done = subprocess.run(
            [*command, "--cache-dir", tmp_path / "cache", snippet],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        first, second, *_ = [line for line in done.stdout.splitlines() if "Revealed type" in line]
        assert "-> audio_barlow_twins.model.embedder.Embedder" in first
        assert re.search(r"Generator\[audio_barlow_twins\.shards\.\S*\.Batch", second)

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ("embed x.wav --checkpoint y.pt", "`abt embed` needs soundfile, .*twins[eval]'`"),
            ("eval hear --help", "`abt eval` needs ray, .*twins[shards,eval]'`"),
            ("ingest folder x --out y", "`abt ingest` needs .*twins[ingest]'`"),
            ("shards logmel x --out y", "`abt shards` needs ray, .*twins[shards]'`"),
            ("train ablation demo --tasks-dir x", "`abt train` needs ray, .*twins[train,shards]'`"),
            ("shards ls s3://bucket/set", r".*pip install 'audio-barlow-twins[s3]'`"),
        ],
    )
    def test_a_missing_package_is_one_line_that_names_the_extra(
        self, environment: Environment, tmp_path: Path, words: str, line: str
    ) -> None:
        (tmp_path / "x.wav").write_bytes(b"")
        (tmp_path / "x").mkdir()
        done = environment.run(tmp_path, "abt", *words.split())
        assert done.returncode == 2
        assert re.fullmatch(f"error: {line.replace('[', '.').replace(']', '.')}\n", done.stderr)


def test_a_bare_checkout_runs_from_its_root(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    tracked = subprocess.run(
        ["git", "ls-files", *ROOMS, "audio_barlow_twins"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in tracked.stdout.splitlines():
        if name.endswith((".opus", '"')):
            continue
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name, follow_symlinks=False)
    environment = Environment(tmp_path / "environment")
    done = environment.run(checkout, "python", "-m", "audio_barlow_twins", "model", "audiontt")
    assert "6,333,376" in done.stdout, done.stderr
    done = environment.run(checkout, "python", "-c", FACE)
    assert done.stdout == f"{checkout}/audio_barlow_twins/__init__.py\n", done.stderr
