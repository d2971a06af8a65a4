"""`abt train views CLIP`: pairs of views of a file or a stored clip, as a picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from matplotlib import image

from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.stored.shardset import ShardSet
from audio_barlow_twins.train.tools.show import Show, loudest_crop, make, whole_clip


@pytest.fixture
def config(shards: Path, shard_set: ShardSet, tmp_path: Path) -> Show:
    """Describe a picture of a stored clip."""
    return Show(clip=shard_set.keys[3], shards=str(shards), out=tmp_path / "views.png")


def test_a_stored_clip_is_drawn(config: Show, capsys: pytest.CaptureFixture[str]) -> None:
    config.run()
    picture = image.imread(config.out)
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.05
    assert capsys.readouterr().out == f"{config.out}: 3 pairs of views of {config.clip}\n"


def test_a_key_names_the_clip_that_was_stored(
    config: Show, shard_set: ShardSet, arrays: dict[str, np.ndarray]
) -> None:
    for key in (shard_set.keys[0], shard_set.keys[-1]):
        found = whole_clip(replace(config, clip=key), shard_set)
        np.testing.assert_array_equal(found.numpy(), arrays[key].astype(np.float32))


def test_a_file_is_read_and_made_log_mel(
    config: Show, shard_set: ShardSet, demo_waves: dict[str, np.ndarray],
    arrays: dict[str, np.ndarray], tmp_path: Path,
) -> None:  # fmt: skip
    key = shard_set.keys[5]
    soundfile.write(tmp_path / "clip.wav", demo_waves[key], 16000)
    found = whole_clip(replace(config, clip=str(tmp_path / "clip.wav")), shard_set)
    np.testing.assert_allclose(found.numpy(), arrays[key].astype(np.float32), atol=0.01)


def test_no_augmentation_shows_the_clip_itself(config: Show, shard_set: ShardSet) -> None:
    crop = torch.randn(96, 64)
    statistics = shard_set.statistics
    for view in make(replace(config, views=()), shard_set, crop):
        torch.testing.assert_close(view[1], (crop - statistics.mean) / statistics.std)


def test_the_loudest_crop_is_shown() -> None:
    clip = torch.zeros(300, 4)
    clip[120:200] = 1
    crop = loudest_crop(clip, 80)
    assert bool((crop == 1).all())
    assert loudest_crop(clip[:10], 30).shape == (30, 4)


def test_what_is_neither_file_nor_key_is_one_line(config: Show) -> None:
    with pytest.raises(UserError, match=r"nothing is neither a file nor a key of .*`abt"):
        replace(config, clip="nothing").run()
