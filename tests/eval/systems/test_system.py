import importlib
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audio_barlow_twins.eval.hear import get_scene_embeddings, get_timestamp_embeddings
from audio_barlow_twins.eval.systems.baselines.rows import BASELINES
from audio_barlow_twins.eval.systems.code_digest import _distributions
from audio_barlow_twins.eval.systems.system import LoadedSystem, SystemSpec
from audio_barlow_twins.model.embedder import Embedder
from audio_barlow_twins.shards.base.errors import UserError

MODULE = """
import torch

class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = timestamp_embedding_size = 2

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.scale * torch.stack([x.mean(-1), x.std(-1)], dim=-1))

def load_model(model_file_path="", scale=1.0):
    return Model(scale)

def get_scene_embeddings(audio, model):
    return model(audio)

def get_timestamp_embeddings(audio, model):
    embeddings = model(audio.unfold(1, 800, 800))
    times = 50 * torch.arange(embeddings.shape[1])
    return embeddings, times.expand(len(audio), -1)
"""
Write = Callable[..., SystemSpec]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules into a folder of the path; the first argument is the one of the system."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def written(text: str = MODULE, *, files: dict[str, str] | None = None, **told) -> SystemSpec:
        for name, content in ({"foreign.py": text} | (files or {})).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        forget()
        return SystemSpec(**{"name": "Theirs", "module": "foreign"} | told)

    def forget() -> None:
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("foreign", "beside", "deep"):
                del sys.modules[name]

    yield written
    forget()


def test_a_foreign_module_gives_scene_embeddings(write: Write, sounds: Tensor) -> None:
    found = write().load("cpu").scenes(sounds)
    expected = torch.stack([sounds.mean(1), sounds.std(1)], dim=1)
    torch.testing.assert_close(found, expected)


def test_a_foreign_module_gives_timestamp_embeddings_and_times(
    write: Write, sounds: Tensor
) -> None:
    embeddings, times_ms = write().load("cpu").timestamps(sounds)
    assert embeddings.shape == (4, 20, 2)
    assert times_ms.tolist() == [[50.0 * i for i in range(20)]] * 4


def test_options_reach_load_model_as_values(write: Write, sounds: Tensor) -> None:
    once, twice = write().load("cpu"), write(options=("scale=2.0",)).load("cpu")
    torch.testing.assert_close(twice.scenes(sounds), 2 * once.scenes(sounds))


def test_a_model_that_was_left_in_training_mode_is_evaluated(write: Write, sounds: Tensor) -> None:
    loaded = write().load("cpu")
    assert torch.equal(loaded.scenes(sounds), loaded.scenes(sounds))


def test_float32_is_float32_while_a_module_embeds(write: Write, sounds: Tensor) -> None:
    text = MODULE.replace(
        "    def forward(self, x):\n",
        "    def forward(self, x):\n"
        "        assert not torch.backends.cudnn.allow_tf32\n"
        "        assert not torch.backends.cuda.matmul.allow_tf32\n",
    )
    loaded, before = write(text).load("cpu"), torch.backends.cudnn.allow_tf32
    loaded.scenes(sounds)
    loaded.timestamps(sounds)
    assert torch.backends.cudnn.allow_tf32 == before


def test_embeddings_have_no_gradient(write: Write, sounds: Tensor) -> None:
    text = MODULE.replace("self.scale = scale", "self.scale = torch.nn.Parameter(torch.ones(()))")
    loaded = write(text).load("cpu")
    assert not loaded.scenes(sounds).requires_grad
    assert not loaded.timestamps(sounds)[0].requires_grad


def test_one_of_our_models_in_memory_is_a_system(hear_model: Embedder, sounds: Tensor) -> None:
    loaded = LoadedSystem.of("ours", hear_model)
    assert (loaded.name, loaded.sample_rate, loaded.device.type) == ("ours", 16000, "cpu")
    assert torch.equal(loaded.scenes(sounds), get_scene_embeddings(sounds, hear_model))
    embeddings, times_ms = loaded.timestamps(sounds)
    expected, expected_ms = get_timestamp_embeddings(sounds, hear_model)
    assert torch.equal(embeddings, expected)
    assert torch.equal(times_ms, expected_ms)


def test_a_checkpoint_is_a_system_of_our_own_module(
    checkpoint_path: Path, hear_model: Embedder, sounds: Tensor
) -> None:
    loaded = SystemSpec(
        name="ours", module="audio_barlow_twins.eval.hear", model=str(checkpoint_path)
    ).load("cpu")
    assert torch.equal(loaded.scenes(sounds), get_scene_embeddings(sounds, hear_model))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_by_name_is_a_hear_module(name: str) -> None:
    module = importlib.import_module(BASELINES[name].module)
    for function in ("load_model", "get_scene_embeddings", "get_timestamp_embeddings"):
        assert callable(getattr(module, function))


@pytest.mark.parametrize(
    ("seconds", "clips"),
    [(0.81, 103), (1, 84), (1.5, 56), (4, 21), (4.77, 17), (5, 16), (11.26, 7), (30, 2), (120, 1)],
)
def test_a_model_without_a_bound_of_its_own_gets_the_batches_of_heareval(
    write: Write, seconds: float, clips: int
) -> None:
    assert write().load("cpu").clips_per_pass(int(seconds * 16000)) == clips


def test_a_models_own_bound_counts(write: Write, hear_model: Embedder) -> None:
    bounded = MODULE.replace(
        "def forward", "def clips_per_pass(self, n):\n        return 9\n\n    def forward"
    )
    assert write(bounded).load("cpu").clips_per_pass(16000) == 9
    assert LoadedSystem.of("ours", hear_model).clips_per_pass(160_000) == hear_model.clips_per_pass(
        160_000
    )


def test_a_system_can_be_sent_to_another_process(write: Write) -> None:
    system = write(options=("scale=2",))
    assert pickle.loads(pickle.dumps(system)) == system


SCENES = "return model(audio)\n"
STAMPS = "    return embeddings, times.expand(len(audio), -1)"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (SCENES, "return model(audio).double()\n", "are torch.float64 of shape 4 x 2; wanted"),
        (SCENES, "return model(audio)[:3]\n", "of 4 clips are torch.float32 of shape 3 x 2"),
        (SCENES, "return model(audio)[0]\n", "of shape 2; wanted torch.float32 N x D"),
        (SCENES, "return model(audio)[:, :0]\n", "of shape 4 x 0; wanted"),
        (STAMPS, "    return embeddings[:, :0], times", "of shape 4 x 0 x 2; wanted"),
        (STAMPS, "    return embeddings.mean(2), times", "4 x 20; wanted torch.float32 N x T x D"),
        (STAMPS, "    return embeddings, times", "timestamps are 20 for embeddings 4 x 20 x 2"),
    ],
)  # fmt: skip
def test_what_is_no_embedding_is_refused_by_the_name_of_the_system(
    write: Write, sounds: Tensor, old: str, new: str, words: str
) -> None:
    assert old in MODULE
    loaded = write(MODULE.replace(old, new)).load("cpu")
    embed = loaded.scenes if old == SCENES else loaded.timestamps
    with pytest.raises(UserError, match=f"^Theirs: .*{words}"):
        embed(sounds)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("import torch", "import torch, nowhere", "cannot be imported: No module named 'nowhere'"),
        ("def load_model", "def load", "has no load_model, so it is no HEAR module; `abt"),
        ("def get_scene_emb", "def emb", "has no get_scene_embeddings"),
        ("def get_timestamp_emb", "def emb", "has no get_timestamp_embeddings"),
        ("return Model(scale)", "return {}", "load_model of foreign gives a dict, no torch.nn.Mod"),
        ("16000", "None", "sample_rate of the model is None; wanted Hz"),
        ("scale=1.0", "size=1.0", "load_model of foreign: got an unexpected keyword argument"),
    ],
)
def test_what_is_no_hear_module_is_one_line(write: Write, old: str, new: str, words: str) -> None:
    assert old in MODULE
    with pytest.raises(UserError, match=f"^Theirs: .*{words}"):
        write(MODULE.replace(old, new), options=("scale=1",)).load("cpu")


def test_a_module_that_is_not_there_is_one_line() -> None:
    system = SystemSpec(name="Theirs", module="nowhere_hear")
    for act in (system.load, system.fingerprint):
        with pytest.raises(UserError, match="Theirs: module nowhere_hear cannot be imported"):
            act()


def test_a_device_that_is_not_there_is_one_line(write: Write) -> None:
    with pytest.raises(UserError, match="Theirs: device 'teapot' cannot be used"):
        write().load("teapot")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_numbers_of_gpus_are_kept_only_for_a_gpu(
    write: Write, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """To keep them starts CUDA."""
    asked: list[list[int]] = []

    @contextmanager
    def fork(devices: Sequence[int]) -> Iterator[None]:
        asked.append(list(devices))
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with suppress(UserError):  # there may be no GPU
        write().load(device)
    assert asked == [[0, 1] if device == "cuda" else []]


def test_errors_of_our_modules_name_the_system(tmp_path: Path) -> None:
    system = SystemSpec(
        name="checkpoint", module="audio_barlow_twins.eval.hear", model=str(tmp_path / "none.pt")
    )
    with pytest.raises(UserError, match=r"^checkpoint: .*none\.pt: no such file"):
        system.load("cpu")


@pytest.mark.parametrize("module", ["", "my/module.py", "my-module", "a..b"])
def test_a_path_is_no_name_of_a_module(module: str) -> None:
    with pytest.raises(UserError, match="wanted a name that can be imported"):
        SystemSpec(name="Theirs", module=module)


def test_a_system_refuses_options_that_are_not_pairs() -> None:
    with pytest.raises(UserError, match="'fast' is not NAME=VALUE"):
        SystemSpec(name="Theirs", module="foreign", options=("fast",))


BESIDE = {"beside.py": "import deep.inner", "deep/__init__.py": "", "deep/inner.py": "X = 1"}


def test_a_fingerprint_is_16_hex_digits_that_stay(write: Write) -> None:
    first = write().fingerprint()
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert write().fingerprint() == first


@pytest.mark.parametrize("file", ["foreign.py", *BESIDE])
def test_a_fingerprint_follows_every_source_that_the_module_imports(
    write: Write, file: str
) -> None:
    late = MODULE + "\ndef later():\n    from beside import deep\n"
    files = {"foreign.py": late} | BESIDE
    before = write(late, files=files).fingerprint()
    changed = files | {file: files[file] + "\nY = 2\n"}
    assert write(late, files=changed).fingerprint() != before


def test_a_fingerprint_follows_relative_imports(write: Write) -> None:
    files = {"foreign/__init__.py": "from .inner import net", "foreign/inner/__init__.py": ""}
    files |= {"foreign/inner/net.py": "from ..deep import x"}
    files |= {"foreign/deep.py": "x = 1", "foreign/other.py": "x = 1"}
    before = write(files=files).fingerprint()
    assert write(files=files | {"foreign/other.py": "x = 2"}).fingerprint() == before
    assert write(files=files | {"foreign/deep.py": "x = 2"}).fingerprint() != before


def test_a_fingerprint_leaves_alone_what_the_module_does_not_import(write: Write) -> None:
    before = write(files={"beside.py": "X = 1"}).fingerprint()
    assert write(files={"beside.py": "X = 2"}).fingerprint() == before


def test_a_fingerprint_follows_options_and_ignores_their_order_and_the_row(write: Write) -> None:
    options = ("scale=1", "fast=true")
    before = write(options=options).fingerprint()
    assert write(options=options[::-1], name="again").fingerprint() == before
    assert write(options=("scale=2", "fast=true")).fingerprint() != before
    assert write().fingerprint() != before


def test_a_fingerprint_follows_the_bytes_of_the_weights_not_their_place(
    write: Write, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.pt", tmp_path / "there"
    here.write_bytes(b"weights")
    before = write(model=str(here)).fingerprint()
    assert write(model=str(here.rename(there))).fingerprint() == before
    there.write_bytes(b"weighty")
    assert write(model=str(there)).fingerprint() != before
    as_option = write(options=(f"weights={there}",)).fingerprint()
    there.write_bytes(b"weights")
    assert write(options=(f"weights={there}",)).fingerprint() != as_option


def test_a_fingerprint_follows_every_file_of_a_folder_of_weights(
    write: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "weights" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"1")
    (folder / "b.bin").write_bytes(b"2")
    before = write(model=str(folder.parent)).fingerprint()
    (folder / "b.bin").write_bytes(b"3")
    changed = write(model=str(folder.parent)).fingerprint()
    (folder / "b.bin").rename(folder / "c.bin")
    assert len({before, changed, write(model=str(folder.parent)).fingerprint()}) == 3


def test_a_fingerprint_follows_weights_that_the_module_finds_itself(
    write: Write, tmp_path: Path
) -> None:
    finding = f"{MODULE}\ndef default_weights(size):\n    return {str(tmp_path)!r} + f'/{{size}}'\n"
    (tmp_path / "7").write_bytes(b"weights")
    before = write(finding, options=("size=7",)).fingerprint()
    (tmp_path / "7").write_bytes(b"weighty")
    assert write(finding, options=("size=7",)).fingerprint() != before


def test_a_fingerprint_of_an_installed_module_follows_what_its_installer_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "lib" / "site-packages"
    note = site / "theirs-1.0.dist-info"
    note.mkdir(parents=True)
    (site / "installed_hear.py").write_text(MODULE)
    (note / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    found = []
    for digest in ("sha256=a", "sha256=b"):
        (note / "RECORD").write_text(
            f"installed_hear.py,{digest},9\ntheirs-1.0.dist-info/RECORD,,\n"
        )
        _distributions.cache_clear()
        found.append(SystemSpec(name="Theirs", module="installed_hear").fingerprint())
    _distributions.cache_clear()
    monkeypatch.delitem(sys.modules, "installed_hear")
    assert len(set(found)) == 2


def test_a_fingerprint_without_the_weights_that_it_needs_is_one_line(write: Write) -> None:
    lacking = (
        "from audio_barlow_twins.shards.base.errors import UserError\n\n"
        "def default_weights():\n    raise UserError('pip install them')\n"
    )
    with pytest.raises(UserError, match=r"^Theirs: pip install them$"):
        write(lacking).fingerprint()
