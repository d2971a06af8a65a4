"""The plan: every clip in exactly one shard, in order, and a digest that notices any change."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.sources.clip import Clip, clip_keys
from audio_barlow_twins.ingest.stage.plan import Plan
from audio_barlow_twins.shards.base.errors import UserError


def make_clips(n: int) -> list[Clip]:
    """Plan the clips of `n` files."""
    names = [f"{i:05d}.wav" for i in range(n)]
    return [
        Clip(key=key, source="folder", path=f"/data/{name}", origin=name, labels=("x",))
        for key, name in zip(clip_keys(names), names, strict=True)
    ]


@given(n=st.integers(0, 300), shard_clips=st.integers(1, 320))
def test_the_shards_are_a_partition_of_the_clips_in_their_order(n: int, shard_clips: int) -> None:
    clips = make_clips(n)
    plan = Plan("folder", clips, shard_clips)
    assert [clip for shard in plan for clip in shard.clips] == clips
    assert all(len(shard.clips) == shard_clips for shard in plan[:-1])
    assert all(0 < len(shard.clips) <= shard_clips for shard in plan)


@given(n=st.integers(1, 100), shard_clips=st.integers(1, 20))
def test_shards_are_numbered_without_a_gap(n: int, shard_clips: int) -> None:
    names = [shard.name for shard in Plan("folder", make_clips(n), shard_clips)]
    assert names == [f"shard-{number:06d}" for number in range(len(names))]


@given(n=st.integers(1, 50), data=st.data())
def test_any_change_of_a_shard_changes_its_digest_and_no_other(n: int, data: st.DataObject) -> None:
    clips = make_clips(n)
    changed = data.draw(st.integers(0, n - 1))
    change = data.draw(
        st.sampled_from([{"key": "k"}, {"origin": "o"}, {"labels": ()}, {"labels": ("x", "y")}])
    )
    other = [replace(clip, **change) if i == changed else clip for i, clip in enumerate(clips)]
    before, after = (Plan("folder", part, 7) for part in (clips, other))
    differs = [a.digest != b.digest for a, b in zip(before, after, strict=True)]
    assert differs == [number == changed // 7 for number in range(len(before))]


def test_moving_the_folder_changes_no_digest() -> None:
    clips = make_clips(5)
    moved = [replace(clip, path="/elsewhere" + clip.path) for clip in clips]
    assert Plan("folder", clips, 5)[0].digest == Plan("folder", moved, 5)[0].digest


def test_source_shard_size_order_and_number_of_clips_are_part_of_the_digest() -> None:
    clips = make_clips(6)
    plans = [
        Plan("folder", clips, 6),
        Plan("demo", clips, 6),
        Plan("folder", clips, 7),
        Plan("folder", clips[::-1], 6),
        Plan("folder", clips[:5], 6),
    ]
    assert len({plan[0].digest for plan in plans}) == len(plans)


def test_labels_are_not_glued_together_in_the_digest() -> None:
    (clip,) = make_clips(1)
    labels = [("a", "b"), ("ab",), ("a,b",), ("a", "b", "")]
    digests = {Plan("s", [replace(clip, labels=each)], 1)[0].digest for each in labels}
    assert len(digests) == len(labels)


@pytest.mark.parametrize("shard_clips", [0, -1])
def test_a_shard_without_room_is_refused(shard_clips: int) -> None:
    with pytest.raises(UserError, match="a shard holds at least one clip"):
        Plan("folder", make_clips(1), shard_clips)
