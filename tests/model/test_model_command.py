"""`python -m model`."""

import runpy

import pytest


def test_the_command_lists_every_encoder_with_its_sizes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_module("model", run_name="__main__")
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["encoder", "parameters", "embedding"]
    assert ["audiontt", "6,333,376", "3,072"] in [row.split() for row in rows]
