import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audio_barlow_twins.eval.share.validate import validate
from audio_barlow_twins.eval.systems.system import parse_options
from audio_barlow_twins.shards.base.errors import UserError

GOOD = """
import torch

class Model(torch.nn.Module):
    sample_rate = 16000
    timestamp_embedding_size = 3

def load_model(weights="", size=5):
    model = Model()
    model.scene_embedding_size = size
    return model

def get_timestamp_embeddings(audio, model):
    count = 1 + audio.shape[1] * 20 // model.sample_rate
    times = 50.0 * torch.arange(count).float()
    return torch.zeros(len(audio), count, 3), times.expand(len(audio), -1)

def get_scene_embeddings(audio, model):
    return torch.zeros(len(audio), model.scene_embedding_size)
"""
Verdicts = dict[str, str]


@pytest.fixture
def verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Verdicts]:
    """Validate a module given as text; return what did not pass, by the name of the check."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def judge(text: str, **settings: object) -> Verdicts:
        (tmp_path / "under_test.py").write_text(text)
        sys.modules.pop("under_test", None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        findings = validate("under_test", device="cpu", **settings)  # type: ignore[arg-type]
        monkeypatch.delitem(sys.modules, "under_test", raising=False)
        return {row.check: row.verdict for row in findings.rows if row.verdict != "pass"}

    return judge


def test_our_own_module_passes_every_check(checkpoint_path: Path) -> None:
    findings = validate("audio_barlow_twins.eval.hear", str(checkpoint_path), device="cpu")
    assert len(findings.rows) == 54
    assert {row.verdict for row in findings.rows} == {"pass"}


def test_a_module_that_keeps_to_the_api_passes(verdicts: Callable[..., Verdicts]) -> None:
    assert verdicts(GOOD) == {}


def test_options_reach_load_model(verdicts: Callable[..., Verdicts]) -> None:
    assert verdicts(GOOD, options={"size": 7}) == {}
    assert verdicts(GOOD, options={"depth": 7}) == {"load_model returns": "fail"}


STAMPS = "get_timestamp_embeddings, {} s: "
SCENES = "get_scene_embeddings, 2.74 s: "


@pytest.mark.parametrize(
    ("old", "new", "check", "verdict"),
    [
        ("def load_model", "def load", "load_model exists", "fail"),
        ("return model\n", "return {}\n", "the model is a torch.nn.Module", "fail"),
        ("    sample_rate = 16000\n", "", "sample_rate exists", "fail"),
        (
            "sample_rate = 16000",
            "sample_rate = 8000",
            "sample_rate is one of 16000, 22050, 32000, 44100, 48000",
            "fail",
        ),
        (
            "    model.scene_embedding_size = size\n",
            "",
            "scene_embedding_size exists",
            "fail",
        ),
        ("size=5", "size=5.0", "scene_embedding_size is an int", "fail"),
        ("    timestamp_embedding_size = 3\n", "", "timestamp_embedding_size exists", "fail"),
        (
            "timestamp_embedding_size = 3",
            "timestamp_embedding_size = '3'",
            "timestamp_embedding_size is an int",
            "fail",
        ),
        ("def get_scene_", "def scene_", "get_scene_embeddings exists", "fail"),
        ("def get_timestamp_", "def timestamp_", "get_timestamp_embeddings exists", "fail"),
        ("model.scene_embedding_size)\n", "4)\n", SCENES + "embeddings have the size that the "
         "model states", "fail"),
        ("torch.zeros(len(audio), model.", "torch.zeros(3, model.", SCENES + "4 clips in, 4 out",
         "fail"),
        ("model.scene_embedding_size)\n", "5, 1)\n", SCENES + "embeddings have 2 axes", "fail"),
        ("model.scene_embedding_size)\n", "5).double()\n", SCENES + "embeddings are float32",
         "fail"),
        ("return torch.zeros(len(audio), model.", "raise KeyError; (len(audio), model.",
         SCENES + "returns a tensor", "fail"),
        ("count, 3)", "count, 3).half()", STAMPS + "embeddings are float32", "fail"),
        ("count, 3)", "count)", STAMPS + "embeddings have 3 axes", "fail"),
        ("zeros(len(audio), count", "zeros(1, count", STAMPS + "2 clips in, 2 out", "fail"),
        ("count, 3)", "count, 4)", STAMPS + "embeddings have the size that the model states",
         "fail"),
        ("times.expand(len(audio), -1)", "times", STAMPS + "timestamps have 2 axes", "fail"),
        ("count, 3)", "count + 1, 3)", STAMPS + "a timestamp for each embedding", "fail"),
        ("return torch.zeros(len(audio), count", "return None; (len(audio), count",
         STAMPS + "returns two tensors", "fail"),
        ("50.0 * torch.arange(count)", "51.0 * torch.arange(count)",
         STAMPS + "timestamps at most 50 ms apart", "warn"),
        ("times.expand(len(audio), -1)", "(times / 2 + times / 25 % 4).expand(len(audio), -1)",
         STAMPS + "timestamps evenly spaced", "fail"),
        ("50.0 * torch.arange(count)", "51.0 + 40.0 * torch.arange(count)",
         STAMPS + "timestamps start with the clip", "warn"),
        ("50.0 * torch.arange(count)", "20.0 * torch.arange(count)",
         STAMPS + "timestamps reach the end", "warn"),
        ("50.0 * torch.arange(count)", "100.0 * torch.arange(count)",
         STAMPS + "timestamps stay inside the clip", "fail"),
    ],
)  # fmt: skip
def test_each_fault_is_found_by_the_check_of_that_name(
    old: str, new: str, check: str, verdict: str, verdicts: Callable[..., Verdicts]
) -> None:
    assert old in GOOD
    found = verdicts(GOOD.replace(old, new))
    for seconds in (1.07, 1.98, 4.0):
        assert found.get(check.format(seconds), "pass") == verdict


def test_one_fault_does_not_hide_another(verdicts: Callable[..., Verdicts]) -> None:
    faulty = GOOD.replace("16000", "8000").replace("count, 3)", "count, 4)")
    faulty = faulty.replace("def get_scene_", "def scene_")
    assert set(verdicts(faulty).values()) == {"fail"}
    assert len(verdicts(faulty)) == 1 + 3 + 1


@pytest.mark.parametrize("error", ["RuntimeError('broken')", "ArithmeticError", "StopIteration"])
def test_whatever_a_module_raises_is_a_finding(
    error: str, verdicts: Callable[..., Verdicts]
) -> None:
    assert verdicts(f"raise {error}") == {"the module can be imported": "fail"}


def test_an_interruption_is_no_finding(verdicts: Callable[..., Verdicts]) -> None:
    with pytest.raises(KeyboardInterrupt):
        verdicts("raise KeyboardInterrupt")


def test_options_are_read_as_json_or_else_as_text() -> None:
    given = ["size=7", "rate=0.5", "fast=true", "name=large", 'sizes={"a": 1}', "empty="]
    assert parse_options(given) == {
        "size": 7, "rate": 0.5, "fast": True, "name": "large", "sizes": {"a": 1}, "empty": "",
    }  # fmt: skip
    with pytest.raises(UserError, match="'fast' is not NAME=VALUE"):
        parse_options(["fast"])
