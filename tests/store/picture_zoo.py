"""Pictures of every awkward kind, made from raw bytes or with Pillow, and what must become of them.

`SOUND` gives bytes and the pixels they decode to, `BROKEN` gives bytes and the reason there are none.
"""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
# Two columns, three rows, no two alike: any turn or mirror image differs.
LETTER = np.array([[RED, GREEN], [BLUE, WHITE], [BLACK, (255, 255, 0)]], dtype=np.uint8)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(size: tuple[int, int], depth: int, colour_type: int, rows: list[bytes], *chunks: bytes) -> bytes:
    """Return a PNG made by hand."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\x00" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def rgb(*rows: list[tuple[int, int, int]]) -> np.ndarray:
    """Return (h, w, 3) pixels."""
    return np.array(rows, dtype=np.uint8)


def grey(*rows: list[int]) -> np.ndarray:
    """Return (h, w, 3) pixels of grey."""
    return np.repeat(np.array(rows, dtype=np.uint8)[:, :, None], 3, axis=2)


def plain(colour: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (16, 8)) -> Image.Image:
    """Return a picture of one colour."""
    return Image.new(mode, size, colour)


def with_orientation(value: int) -> Image.Exif:
    """Return EXIF that asks for a turn."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def palette_picture() -> Image.Image:
    """Return pixels 0, 1 over 1, 0 of a palette of red and green."""
    picture = Image.new("P", (2, 2))
    picture.putpalette([*RED, *GREEN])
    picture.putdata([0, 1, 1, 0])
    return picture


def ycck_jpeg() -> bytes:
    """Return a red JPEG in YCCK, as some printers' programs write it."""
    # The planes of YCCK hold the luma and chroma of inverted CMY, and inverted K. Pillow writes CMYK inverted and
    # marks it as transform 0; the same planes under transform 2 are YCCK.
    luma = plain((0, 255, 255)).convert("YCbCr").getpixel((0, 0))
    assert isinstance(luma, tuple)
    planes = plain(tuple(255 - value for value in (*luma, 255)), "CMYK")
    data = bytearray(saved(planes, "JPEG", quality=100, subsampling=0))
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0
    data[marker + 11] = 2
    return bytes(data)


def _frames(kind: str, **options: Any) -> bytes:
    return saved(plain(RED), kind, save_all=True, append_images=[plain(BLUE)], duration=100, **options)


def _array_tiff(values: list[list[float]], dtype: type) -> bytes:
    return saved(Image.fromarray(np.array(values, dtype=dtype)), "TIFF")


_letter = Image.fromarray(LETTER)
_stripes = Image.fromarray(np.array([[0, 255, 0, 255]] * 2, dtype=np.uint8)).convert("1")
_STRIPES = grey([0, 255, 0, 255], [0, 255, 0, 255])
_RED_FIELD = np.tile(np.array(RED, dtype=np.uint8), (8, 16, 1))
_GREY_FIELD = np.full((8, 16, 3), 100, dtype=np.uint8)
_sixteen_bits = struct.pack(">4H", 0, 300, 32768, 65535)

# Bytes, the pixels, and how far a lossy format may be from them.
SOUND: dict[str, tuple[bytes, np.ndarray, int]] = {
    "plain png": (saved(_letter, "PNG"), LETTER, 0),
    "bmp": (saved(_letter, "BMP"), LETTER, 0),
    "tiff": (saved(_letter, "TIFF"), LETTER, 0),
    "webp": (saved(_letter, "WEBP", lossless=True), LETTER, 0),
    "jpeg": (saved(plain(RED), "JPEG", quality=100, subsampling=0), _RED_FIELD, 2),
    "progressive jpeg": (saved(plain(RED), "JPEG", quality=100, progressive=True), _RED_FIELD, 2),
    "grey jpeg": (saved(plain((100,), "L"), "JPEG", quality=100), _GREY_FIELD, 2),
    "animated gif": (_frames("GIF"), _RED_FIELD, 0),
    "animated png": (_frames("PNG"), _RED_FIELD, 0),
    "animated webp": (_frames("WEBP", lossless=True), _RED_FIELD, 0),
    "tiff of two pages": (_frames("TIFF"), _RED_FIELD, 0),
    "cmyk jpeg": (saved(plain((0, 255, 255, 0), "CMYK"), "JPEG", quality=100), _RED_FIELD, 2),
    "cmyk tiff": (saved(plain((0, 255, 255, 0), "CMYK"), "TIFF"), _RED_FIELD, 0),
    "ycck jpeg": (ycck_jpeg(), _RED_FIELD, 3),
    "1-bit png": (saved(_stripes, "PNG"), _STRIPES, 0),
    "1-bit bmp": (saved(_stripes, "BMP"), _STRIPES, 0),
    "fax tiff": (saved(_stripes, "TIFF", compression="group4"), _STRIPES, 0),
    "palette": (saved(palette_picture(), "PNG"), rgb([RED, GREEN], [GREEN, RED]), 0),
    "palette with a transparent colour": (
        saved(palette_picture(), "PNG", transparency=0),
        rgb([WHITE, GREEN], [GREEN, WHITE]),
        0,
    ),
    "palette with half-transparent red": (
        saved(palette_picture(), "PNG", transparency=bytes([128, 255])),
        rgb([(255, 127, 127), GREEN], [GREEN, (255, 127, 127)]),
        0,
    ),
    "gif with a transparent colour": (
        saved(palette_picture(), "GIF", transparency=0),
        rgb([WHITE, GREEN], [GREEN, WHITE]),
        0,
    ),
    "grey with alpha": (saved(plain((0, 128), "LA"), "PNG"), np.full((8, 16, 3), 127, dtype=np.uint8), 0),
    "colour with alpha": (
        saved(plain((255, 0, 0, 51), "RGBA"), "PNG"),
        # A fifth of red over white.
        np.tile(np.array((255, 204, 204), dtype=np.uint8), (8, 16, 1)),
        0,
    ),
    "invisible webp": (
        saved(plain((9, 9, 9, 0), "RGBA"), "WEBP", lossless=True, exact=True),
        np.full((8, 16, 3), 255, dtype=np.uint8),
        0,
    ),
    "colour with a transparent colour": (
        png((2, 1), 8, 2, [bytes([*RED, *GREEN])], chunk(b"tRNS", struct.pack(">3H", *GREEN))),
        rgb([RED, WHITE]),
        0,
    ),
    "grey with a transparent grey": (
        png((2, 1), 8, 0, [bytes([7, 100])], chunk(b"tRNS", struct.pack(">H", 7))),
        grey([255, 100]),
        0,
    ),
    # Clipping would make all but the first white.
    "16-bit grey": (png((4, 1), 16, 0, [_sixteen_bits]), grey([0, 1, 128, 255]), 0),
    "16-bit grey with a transparent grey": (
        png((4, 1), 16, 0, [_sixteen_bits], chunk(b"tRNS", struct.pack(">H", 300))),
        grey([0, 255, 128, 255]),
        0,
    ),
    "16-bit grey tiff": (_array_tiff([[0, 300], [32768, 65535]], np.uint16), grey([0, 1], [128, 255]), 0),
    "16-bit colour": (
        png((1, 1), 16, 2, [struct.pack(">3H", 65535, 32768, 256)]),
        rgb([(255, 128, 1)]),
        0,
    ),
    "lab tiff": (saved(plain((255, 128, 128), "LAB"), "TIFF"), np.full((8, 16, 3), 255, dtype=np.uint8), 1),
    "32-bit whole numbers": (_array_tiff([[-100, 0], [100, 50]], np.int32), grey([0, 128], [255, 191]), 0),
    "32-bit floating": (_array_tiff([[0, 0.5], [1, 0.25]], np.float32), grey([0, 128], [255, 64]), 0),
    "32-bit floating, all alike": (_array_tiff([[3, 3]], np.float32), grey([0, 0]), 0),
    "jpeg turned by exif": (
        saved(
            Image.fromarray(np.repeat([[RED] * 8, [BLUE] * 8], 8, axis=0).astype(np.uint8)),
            "JPEG",
            quality=100,
            subsampling=0,
            exif=with_orientation(6),
        ),
        # What was on top is now at the right.
        np.tile(np.repeat(np.array([BLUE, RED], dtype=np.uint8), 8, axis=0), (8, 1, 1)),
        3,
    ),
    "tiff turned by its tag": (saved(_letter, "TIFF", tiffinfo={274: 6}), np.rot90(LETTER, -1), 0),
    "webp turned by exif": (
        saved(_letter, "WEBP", lossless=True, exif=with_orientation(8)),
        np.rot90(LETTER),
        0,
    ),
    "exif that is no exif": (
        png((1, 1), 8, 2, [bytes(RED)], chunk(b"eXIf", b"nothing that could be parsed")),
        rgb([RED]),
        0,
    ),
}

_noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def _half(kind: str, **options: Any) -> bytes:
    data = saved(_noise, kind, **options)
    return data[: len(data) // 2]


def _huge_jpeg() -> bytes:
    data = bytearray(saved(plain(RED), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(data)


def _huge_bmp() -> bytes:
    data = bytearray(saved(plain(RED), "BMP"))
    data[18:26] = struct.pack("<ii", 40000, 40000)
    return bytes(data)


def _huge_webp() -> bytes:
    data = bytearray(_frames("WEBP"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (9999).to_bytes(3, "little") * 2
    return bytes(data)


BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty file"),
    "text": (b"a city in the north", "not a picture: "),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="2" height="2"/>', "not a picture: "),
    "html": (b"<!DOCTYPE html><title>404</title>", "not a picture: "),
    "pdf": (b"%PDF-1.7\n%", "not a picture: "),
    # Pillow would hand this to an interpreter of PostScript.
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n", "not a picture: "),
    "icon": (saved(plain(RED), "ICO"), "not a picture: "),
    "netpbm": (saved(plain(RED), "PPM"), "not a picture: "),
    "a signature and no more": (b"\x89PNG\r\n\x1a\n", "broken PNG: "),
    "noise after the signature": (b"\xff\xd8\xff" + bytes(range(200)), "broken JPEG: "),
    "half a jpeg": (_half("JPEG"), "truncated JPEG: "),
    "half a progressive jpeg": (_half("JPEG", progressive=True), "truncated JPEG: "),
    "half a png": (_half("PNG"), "truncated PNG: "),
    "half a webp": (_half("WEBP"), "truncated WebP: "),
    "half a gif": (_half("GIF"), "truncated GIF: "),
    "half a bmp": (_half("BMP"), "truncated BMP: "),
    "half a tiff": (_half("TIFF"), "truncated TIFF: "),
    "nan": (_array_tiff([[0.0, float("nan")]], np.float32), "not finite: "),
    "no width": (png((0, 5), 8, 2, []), "broken PNG: "),
    "a strip": (saved(plain(RED, size=(1, 101)), "PNG"), "too narrow: 1 x 101 pixels"),
    "huge png": (png((50000, 50000), 8, 2, []), "too large: 50000 x 50000 pixels, expected at most 10000"),
    "huge gif": (
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + saved(plain(RED), "GIF")[10:],
        "too large: 65535 x 65535",
    ),
    "huge jpeg": (_huge_jpeg(), "too large: 65000 x 65000"),
    "huge bmp": (_huge_bmp(), "too large: 40000 x 40000"),
    "huge webp": (_huge_webp(), "too large: 10000 x 10000"),
    "one pixel too many": (saved(plain(RED, size=(73, 137)), "PNG"), "too large: 73 x 137 pixels"),
}
