"""PNG files that Pillow reads."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image

from audio_barlow_twins.shards.html.picture import colours, png


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_a_picture_has_the_colours_that_its_numbers_stand_for(image: np.ndarray) -> None:
    read = Image.open(io.BytesIO(png(image, colours(256))))
    assert read.mode == "P"
    np.testing.assert_array_equal(np.asarray(read), image)
    np.testing.assert_array_equal(np.asarray(read.convert("RGB")), colours(256)[image])


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 2, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a picture is uint8"):
        png(np.zeros(shape, np.uint8), colours())


def test_colours_lighten_evenly() -> None:
    linear = (colours(64) / 255) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = 116 * np.cbrt(np.maximum(luminance, 0.008856)) - 16  # CIE 1976
    steps = np.diff(lightness)
    assert steps.min() >= 0
    assert steps.max() < 3 * 100 / 63
