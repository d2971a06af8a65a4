"""Items of one length go together, none waits forever."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.eval.embed.batches import buckets


@given(
    sizes=st.lists(st.integers(1, 6), max_size=40),
    fill=st.integers(1, 20),
    room=st.integers(1, 30),
)
def test_every_item_is_in_one_full_enough_group_of_its_length(
    sizes: list[int], fill: int, room: int
) -> None:
    taken = gone = 0

    def items() -> Iterator[str]:
        nonlocal taken
        for size in sizes:
            yield "x" * size
            taken += size
            assert taken - gone <= room

    seen: list[int] = []
    for group in buckets(items(), len, lambda size: max(1, fill // size), room):
        numbers = [i for i, _ in group]
        assert numbers == sorted(numbers)
        assert all(len(item) == sizes[i] for i, item in group)
        assert len({sizes[i] for i in numbers}) == 1
        assert len(group) <= max(1, fill // sizes[numbers[0]])
        gone += sum(sizes[i] for i in numbers)
        seen += numbers
    assert sorted(seen) == list(range(len(sizes)))


def test_with_room_enough_groups_are_as_full_as_they_can_be() -> None:
    items = ["aa", "b", "cc", "d", "ee", "f", "gg"]
    groups = list(buckets(items, len, lambda size: 3, 100))
    assert groups == [
        [(0, "aa"), (2, "cc"), (4, "ee")],
        [(1, "b"), (3, "d"), (5, "f")],
        [(6, "gg")],
    ]
