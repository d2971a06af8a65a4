"""The parameters of log-mel: they survive a file, their hash tells them apart, errors name them."""

import json
import re
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.shards.base.digest import digest_of
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.form import logmel_form, wave_form
from audio_barlow_twins.shards.stored.front_end import LOG_EPS, FrontEnd

front_ends = st.builds(
    FrontEnd,
    window=st.integers(1, 1024).map(lambda half: 2 * half),
    hop=st.integers(1, 1000),
    n_mels=st.integers(1, 256),
    f_min_hz=st.floats(0, 3000),
    f_max_hz=st.floats(3001, 8000),
    mel_scale=st.sampled_from(["htk", "slaney"]),
    mel_norm=st.sampled_from(["none", "slaney"]),
    mel_eps=st.sampled_from([0.0, LOG_EPS, 1e-5]),
    power_eps=st.sampled_from([0.0, 2.220446049250313e-16]),
)
OTHER = {
    "sample_rate": 22050,
    "window": 512,
    "hop": 320,
    "n_mels": 80,
    "f_min_hz": 50.0,
    "f_max_hz": 8000.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "mel_eps": 1e-5,
    "power_eps": 1e-10,
}


@given(front_end=front_ends)
def test_a_front_end_survives_its_parameters_in_json(front_end: FrontEnd) -> None:
    parameters = json.loads(json.dumps(front_end.parameters()))
    assert FrontEnd.from_parameters(parameters) == front_end
    assert FrontEnd.from_parameters(parameters).digest() == front_end.digest()


@given(one=front_ends, other=front_ends)
def test_digests_are_equal_exactly_when_the_front_ends_are(one: FrontEnd, other: FrontEnd) -> None:
    assert (one.digest() == other.digest()) == (one == other)


def test_the_digest_changes_with_every_field() -> None:
    assert OTHER.keys() == asdict(FrontEnd()).keys()
    digests = {replace(FrontEnd(), **{name: value}).digest() for name, value in OTHER.items()}
    assert len(digests | {FrontEnd().digest()}) == len(OTHER) + 1


def test_digests_are_those_that_shard_sets_and_checkpoints_carry_already() -> None:
    assert FrontEnd().digest() == "037c76142eec16890529d508bb5b4bb1"
    assert FrontEnd(n_mels=80, hop=320).digest() == "7e9dc9512c3126c83aa8bb7901b09c87"


def test_the_digest_does_not_depend_on_the_order_of_the_parameters() -> None:
    backwards = dict(reversed(FrontEnd().parameters().items()))
    assert digest_of(backwards) == FrontEnd().digest()


def test_whole_numbers_of_hertz_are_the_same_front_end() -> None:
    assert FrontEnd(f_min_hz=60, f_max_hz=7800).digest() == FrontEnd().digest()


@pytest.mark.parametrize(
    ("name", "value"),
    [("mel_scale", "bark"), ("power", 1.0), ("padding", "none"), ("logarithm", "decimal")],
)
def test_a_property_that_cannot_be_changed_is_refused_by_name(name: str, value: object) -> None:
    wanted = re.escape(str(FrontEnd().parameters()[name]))
    with pytest.raises(UserError, match=f"{name} is {value}, wanted {wanted}"):
        FrontEnd.from_parameters({**FrontEnd().parameters(), name: value})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", FrontEnd().parameters())
def test_a_parameter_that_is_missing_is_named(name: str) -> None:
    parameters = FrontEnd().parameters()
    del parameters[name]
    with pytest.raises(UserError, match=f"{name} is missing"):
        FrontEnd.from_parameters(parameters)


def test_a_parameter_of_the_future_is_named() -> None:
    with pytest.raises(UserError, match=r"dither is 0\.1, wanted none"):
        FrontEnd.from_parameters({**FrontEnd().parameters(), "dither": 0.1})


@pytest.mark.parametrize("name", sorted(OTHER.keys() - {"sample_rate"}))
def test_a_set_with_another_front_end_is_refused_by_the_name_of_the_parameter(name: str) -> None:
    found = logmel_form(replace(FrontEnd(), **{name: OTHER[name]}))
    wanted = getattr(FrontEnd(), name)
    if name.endswith("eps"):  # not among the parameters at its default
        wanted = "none"
    with pytest.raises(UserError, match=f"^here .*: .*{name} is {OTHER[name]}, wanted {wanted}$"):
        found.require(logmel_form(FrontEnd()), "here")


def test_a_set_of_the_other_kind_is_refused() -> None:
    with pytest.raises(UserError, match="here holds wave clips, wanted logmel"):
        wave_form().require(logmel_form(FrontEnd()), "here")


def test_a_log_mel_set_at_another_rate_than_the_stored_waves_is_refused() -> None:
    with pytest.raises(UserError, match="22050"):
        logmel_form(FrontEnd(sample_rate=22050))


@pytest.mark.parametrize(
    "bad",
    [
        {"f_max_hz": 8001.0},
        {"f_min_hz": -1.0},
        {"f_min_hz": 7800.0},
        {"window": 0},
        {"window": 401},
        {"hop": 0},
        {"n_mels": 0},
        {"mel_scale": "bark"},
        {"mel_norm": 1},
        {"mel_eps": -1e-9},
        {"power_eps": float("nan")},
    ],
)
def test_impossible_numbers_are_refused_in_one_line(bad: dict) -> None:
    with pytest.raises(UserError) as caught:
        FrontEnd(**bad)
    assert "\n" not in str(caught.value)
