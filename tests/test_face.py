"""The public face of the package and of its rooms: complete, typed, and cheap to import."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "audio_barlow_twins"
FACES = (PACKAGE, *(f"{PACKAGE}.{room}" for room in ("shards", "ingest", "model", "train", "eval")))


@pytest.mark.parametrize("face", FACES)
class TestFace:
    """What holds for every public face."""

    def test_it_names_a_handful_of_things_and_each_is_there(self, face: str) -> None:
        module = importlib.import_module(face)
        assert 4 <= len(module.__all__) <= 8
        for name in module.__all__:
            assert getattr(module, name).__doc__ or name.isupper()
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            getattr(module, "nothing")  # noqa: B009, mypy knows better

    def test_a_type_checker_is_told_the_same_names_from_the_same_modules(self, face: str) -> None:
        path = ROOT.joinpath(*face.split("."), "__init__.py")
        (block,) = (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.If))
        told = {
            alias.asname: "." * node.level + (node.module or "").removeprefix(f"{PACKAGE}")
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        table = ast.literal_eval(ast.unparse(ast.parse(path.read_text()).body[-1].value.args[1]))  # type: ignore[attr-defined]
        assert told == table

    def test_importing_it_loads_nothing_else(self, face: str) -> None:
        program = f"import sys, {face}\nprint(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        loaded = {name for name in done.stdout.split() if name.startswith(PACKAGE)}
        assert loaded <= {PACKAGE, f"{PACKAGE}.lazy", face}
        assert {"torch", "numpy", "pyarrow"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("shards.open_shards", "torch"),
        ("shards.FrontEnd", "torch"),
        ("shards.verify", "torch"),
        ("shards.UserError", "numpy"),
        ("ingest.Clip", "torch"),
        ("ingest.folder_clips", "torch"),
        ("ingest.read_ledger", "torch"),
        ("ingest.run.Ingest", "torch"),
        ("shards.derive.Logmel", "torch"),
    ],
)
def test_what_needs_no_torch_loads_none(name: str, missing: str) -> None:
    room, _, thing = name.rpartition(".")
    program = f"import sys\nfrom {PACKAGE}.{room} import {thing}\nprint({missing!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
