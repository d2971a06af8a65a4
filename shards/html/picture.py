"""Pictures as PNG files, and the colours that numbers become in them."""

import struct
import zlib

import numpy as np

# Dark violet to pale yellow; lightness rises evenly, so that it also reads in grey.
_ANCHORS = "000004 150e38 3b0f70 641a80 8c2981 b73779 de4968 f66e5c fe9f6d fecf92 fcfdbf"


def colours(levels: int = 256) -> np.ndarray:
    """Return the colour map, dark to light, uint8 [levels, 3]."""
    anchors = np.array([list(bytes.fromhex(code)) for code in _ANCHORS.split()], float)
    at = np.linspace(0, len(anchors) - 1, levels)
    mixed = [np.interp(at, range(len(anchors)), anchors[:, i]) for i in range(3)]
    return np.rint(np.stack(mixed, axis=1)).astype(np.uint8)


def png(image: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """Write a picture as a PNG file.

    Args:
        image: uint8 [height, width], grey or numbers of colours, or [height, width, 3], colour.
        palette: the colours that a two-dimensional image numbers, uint8 [n, 3].
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"a picture is uint8 [h, w] or [h, w, 3], got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    colour_type = 2 if image.ndim == 3 else 3 if palette is not None else 0
    lines = np.zeros((height, 1 + image[0].size), np.uint8)  # each line begins with its filter, 0
    lines[:, 1:] = image.reshape(height, -1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", palette.astype(np.uint8).tobytes()))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
