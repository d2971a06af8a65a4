"""The house as its plan draws it: arrows between rooms, owners of heavy imports, sizes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "audio_barlow_twins"
ARROWS = {
    "shards": set(),
    "model": {"shards"},
    "ingest": {"shards"},
    "eval": {"shards", "model"},
    "train": {"shards", "model", "eval"},
}
OWNERS = {
    "ray": {f"shards/cluster/{name}.py" for name in ("fan_out", "counts", "workers")},
    "ffmpeg": {"shards/decode/ffmpeg.py"},
    "yt_dlp": {"ingest/video/child.py"},
    "webdataset": {"shards/stored/writer.py"},
    "tyro": {"shards/base/cli.py"},
}
FLOORS = {
    "shards": "command derive look html cluster read decode stored base",
    "ingest": "command run look report stage video fill sources task errors",
    "model": "command embedder barlow_twins pretrained foreign checkpoint tracing encoders "
    "audiontt vit resnet",
    "train": "command tools ablation run step presets config views",
    "eval": "command share run report probe embed systems hear tasks sound",
}
"""What a room shows, from top to bottom: a file imports of its room what stands below it."""
MODULES = sorted(path for room in ARROWS for path in (ROOT / room).rglob("*.py"))
LIGHT = (
    "train.command",
    "shards.read.reader",
    "shards.stored.shardset",
    "model.checkpoint",
)
HEAVY = ("ray", "yt_dlp", "ffmpeg", "imageio_ffmpeg", "webdataset", "matplotlib", "tensorboard",
    "soundfile", "fsspec",
)  # fmt: skip


def name_of(path: Path) -> str:
    """Write a module's path relative to the repository."""
    return path.relative_to(ROOT).as_posix()


def nodes_of(path: Path) -> Iterator[ast.AST]:
    """Yield everything in a file's syntax tree."""
    return ast.walk(ast.parse(path.read_text()))


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever in it."""
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*above, *filter(None, [node.module])])


def loaded(program: str, packages: set[str]) -> set[str]:
    """Run a program in a fresh interpreter and tell which of some packages it has loaded."""
    program = f"import sys\n{program}\nprint(*{packages} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_every_room_is_there() -> None:
    for room in ARROWS:
        assert (ROOT / room / "__init__.py").is_file(), room
        assert (ROOT / room / "command.py").is_file(), room


@pytest.mark.parametrize("path", MODULES, ids=name_of)
class TestModule:
    """What holds for every module."""

    def test_it_imports_only_rooms_that_an_arrow_leads_to(self, path: Path) -> None:
        room = name_of(path).split("/")[0]
        names = (name.split(".") for name in imports_of(path))
        rooms = {parts[1] for parts in names if parts[0] == PACKAGE and len(parts) > 1}
        assert (rooms & ARROWS.keys()) - {room} <= ARROWS[room]

    def test_it_imports_its_own_room_relatively(self, path: Path) -> None:
        own = f"{PACKAGE}.{name_of(path).split('/')[0]}."
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert not f"{node.module}.".startswith(own), f"line {node.lineno}"

    def test_it_imports_names_from_modules_not_rooms(self, path: Path) -> None:
        assert {f"{PACKAGE}.{room}" for room in ARROWS}.isdisjoint(imports_of(path))

    def test_it_leaves_packages_with_an_owner_to_their_owner(self, path: Path) -> None:
        packages = {name.split(".")[0] for name in imports_of(path)}
        for package, owners in OWNERS.items():
            assert package not in packages or name_of(path) in owners, package

    def test_it_reads_on_a_few_screens(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= 400
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 40, f"{node.name} in line {node.lineno} has {length} lines"

    def test_it_is_named_after_a_thing_and_says_what_it_is(self, path: Path) -> None:
        assert path.stem not in {"utils", "util", "helpers", "misc", "common"}
        assert ast.get_docstring(ast.parse(path.read_text()))

    def test_it_catches_no_exception_whatever(self, path: Path) -> None:
        for node in nodes_of(path):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else ""
                assert caught not in {"", "Exception", "BaseException"}, f"line {node.lineno}"


@pytest.mark.parametrize("room", FLOORS)
def test_the_arrows_between_the_sub_packages_of_a_room_run_one_way(room: str) -> None:
    floors = FLOORS[room].split()
    for path in (ROOT / room).rglob("*.py"):
        own = path.relative_to(ROOT / room).with_suffix("").parts[0]
        names = (name.split(".") for name in imports_of(path))
        used = {parts[2] for parts in names if parts[:2] == [PACKAGE, room] and len(parts) > 2}
        below = {own} if own == "__init__" else {own, *floors[floors.index(own) + 1 :]}
        assert own == "__init__" or used <= below, name_of(path)


FOLDERS = sorted({str(path.parent.relative_to(ROOT)) for path in MODULES} | set(ARROWS))


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_shows_more_than_twelve_boxes(folder: str) -> None:
    shown = [
        path
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    assert len([path for path in shown if path.name != "__init__.py"]) <= 12


def test_nothing_imports_a_room_by_its_bare_name() -> None:
    for path in [*MODULES, *(ROOT / PACKAGE).glob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        bare = {name.split(".")[0] for name in imports_of(path)} & ARROWS.keys()
        assert not bare, name_of(path)


def test_light_modules_pull_in_no_heavy_package() -> None:
    program = "\n".join(f"import {PACKAGE}.{name}" for name in LIGHT)
    assert loaded(program, set(HEAVY)) == set()


@pytest.mark.parametrize("room", ["train", "shards", "eval"])
def test_the_command_lines_of_single_machine_stages_start_without_ray(room: str) -> None:
    assert loaded(f"import {PACKAGE}.{room}.command", {"ray", "ffmpeg", "yt_dlp"}) == set()
