"""Labels are words, wherever they come from; what cannot be one is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.sources.labels import (
    BadLabels,
    as_labels,
    shortened,
    value_at,
    words,
)

UNICODE = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)


@given(st.lists(UNICODE | st.sampled_from(["a", " a", "a\t", " ", ""])))
def test_words_are_stripped_and_none_is_empty_or_comes_twice(texts: list[str]) -> None:
    labels = words(texts)
    assert len(set(labels)) == len(labels)
    assert all(label and label == label.strip() for label in labels)
    assert set(labels) == {text.strip() for text in texts} - {""}


def test_words_keep_the_order_of_their_first_mention() -> None:
    assert words(["dog", " cat", "dog ", "", "ant"]) == ("dog", "cat", "ant")


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (None, ()),
        ([], ()),
        ("", ()),
        (" Bell ", ("Bell",)),
        ("a,b; c", ("a,b; c",)),
        (7, ("7",)),
        (-1, ("-1",)),
        (["a", 2, "a", None], ("a", "2")),
    ],
)
def test_labels_are_a_list_or_one_or_none(value: object, labels: tuple[str, ...]) -> None:
    assert as_labels(value, "labels") == labels


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": 1}, 'labels is {"a": 1}, wanted text, a whole number or a list of these'),
        ([["a"], ["b"]], 'labels holds ["a"], wanted'),
        (["a", {"name": "b"}], 'labels holds {"name": "b"}, wanted'),
        (True, "labels is true, wanted"),
        (0.5, "labels is 0.5, wanted"),
        (float("nan"), "labels is NaN, wanted"),
        (b"dog", "labels is \"b'dog'\", wanted"),
        (["ok", "\ud800"], 'a label is "\\ud800", wanted valid Unicode'),
    ],
)
def test_any_other_value_is_shown(value: object, reason: str) -> None:
    with pytest.raises(BadLabels) as caught:
        as_labels(value, "labels")
    assert reason in str(caught.value)


def test_numbers_get_the_names_of_their_classes() -> None:
    assert as_labels([2, 0, 2], "label", ["Speech", "Dog", "Cat"]) == ("Cat", "Speech")
    assert as_labels("Dog", "label", ["Speech", "Dog"]) == ("Dog",)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_without_a_name_is_no_label(number: int) -> None:
    with pytest.raises(BadLabels, match=f"label is {number}, and .* names classes 0 to 1"):
        as_labels(number, "label", ["Speech", "Dog"])


@given(JSON)
def test_any_json_gives_valid_labels_or_a_short_reason(value: object) -> None:
    try:
        text = " ".join(as_labels(value_at({"tags": value}, "tags.name"), "tags.name"))
    except BadLabels as error:
        text = str(error)
    assert text.encode().decode() == text
    assert len(text) < 500


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"tags": {"name": "a"}}, "a"),
        ({"tags": [{"name": "a"}, {"name": "b"}, {}]}, ["a", "b", None]),
        ({"tags": [{"name": ["a", "b"]}, {"name": "c"}]}, ["a", "b", "c"]),
        ({"tags": None}, None),
        ({"other": 1}, None),
        ({"tags.name": "dotted", "tags": {"name": "a"}}, "dotted"),
    ],
)
def test_a_path_leads_into_objects_and_lists_of_them(value: object, found: object) -> None:
    assert value_at(value, "tags.name") == found


def test_a_path_through_what_has_no_fields_is_shown() -> None:
    with pytest.raises(BadLabels, match='"dog" has no field name'):
        value_at({"tags": "dog"}, "tags.name")


def test_a_value_is_shown_in_short_however_long_or_deep() -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10_000, list(range(10_000)), {"a\nb": "c\nd" * 99}):
        text = shortened(value)
        assert len(text) <= 61
        assert text.endswith("…")
        assert "\n" not in text
