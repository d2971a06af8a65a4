"""`abt model`."""

import pytest

from audio_barlow_twins.command import run
from audio_barlow_twins.model.command import encoder_costs
from audio_barlow_twins.model.encoders import ENCODERS


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    """Run the command and split its table."""
    run(["model", *arguments])
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_command_lists_every_encoder_with_its_sizes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    header, *encoders = rows(capsys)
    assert header == ["encoder", "parameters", "trained", "embedding", "GFLOP"]
    assert ["audiontt", "6,333,376", "3,072", "0.422"] in encoders
    assert ["vitc-b-16x8", "82,038,432", "768", "8.280"] in encoders
    assert [name for name, *_ in encoders] == list(ENCODERS)


def test_parameters_that_training_changes_are_counted_where_they_are_not_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["model"])
    header, *lines = capsys.readouterr().out.splitlines()
    column = slice(header.index("trained") - 5, header.index("trained") + len("trained"))
    trained = {line.split()[0]: line[column].strip() for line in lines}
    assert (trained["vit-t-16x8"], trained["vit-b-8x8"]) == ("5,336,640", "85,047,552")
    assert {name for name, number in trained.items() if number} == {
        name for name in ENCODERS if name.startswith("vit-")
    }


def test_an_encoder_that_is_named_is_listed_with_its_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, row = rows(capsys, "audiontt2020-512")
    assert row == ["audiontt2020-512", "600,192", "512", "0.161", "channels=int", "dropout=float"]


def test_an_unknown_encoder_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        rows(capsys, "vgg")
    assert caught.value.code == 2
    assert "no encoder is called vgg; choose from audiontt, " in capsys.readouterr().err


def test_operations_number_what_the_layers_written_out_add_up_to() -> None:
    convolutions = 64 * 96 * 9 * 64 + 32 * 48 * 9 * 64 * 64
    mlp = 24 * (1024 * 2048 + 2048 * 2048)
    assert encoder_costs("audiontt") == (6_333_376, 6_333_376, 3072, 2 * (convolutions + mlp))


def test_operations_of_attention_are_counted() -> None:
    tokens, dim, patches = 49, 192, 48
    linear = tokens * (3 + 1 + 4 + 4) * dim * dim
    attention = 2 * tokens * tokens * dim
    assert encoder_costs("vit-t-16x8").flop == 2 * (12 * (linear + attention) + patches * 128 * dim)
