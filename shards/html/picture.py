"""PNG pictures, and the colour map for their values."""

import base64
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


def png(image: np.ndarray, palette: np.ndarray) -> bytes:
    """Return a picture, uint8 [height, width], as a PNG file with a palette, uint8 [n, 3]."""
    if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
        raise ValueError(f"a picture is uint8 [h, w], got {image.dtype} {image.shape}")
    lines = np.pad(image, ((0, 0), (1, 0)))  # each line begins with its filter, 0
    size = struct.pack(">IIBBBBB", *image.shape[::-1], 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"PLTE", palette.astype(np.uint8).tobytes()),
              (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def data_uri(kind: str, data: bytes) -> str:
    """Return a file of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
