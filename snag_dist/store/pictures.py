"""Bytes to a picture in RGB, or the reason why there is none.

What is done, always in the same way:
- JPEG, PNG, WebP, GIF, BMP and TIFF are told apart by their first bytes, whatever a file is called; no other
  decoder ever runs. SVG is text and no picture.
- The size is read from the header, and checked before anything is decoded.
- Of an animation or a file of several pages, the first frame counts.
- The rotation that EXIF asks for is applied; unreadable EXIF asks for none.
- What is transparent is laid over white.
- CMYK and YCCK become RGB by plain arithmetic; colour profiles are not applied.
- 16-bit grey is scaled so that 65535 is white. Grey of 32 bits, whole or floating, has no white of its own: the
  least number of the picture becomes black and the greatest white.
- A picture whose pixels are not all there is broken, however many are.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

# A strip that is longer than this against its width shows nothing, and an encoder that scales its short side up
# would make a giant of it.
_MAX_ASPECT = 100
_EXIF_ORIENTATION = 0x0112
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")

# EXIF's value to what rights the picture. Source: EXIF 2.3, tag Orientation.
_RIGHTED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_Opener = Callable[[io.BytesIO], ImageFile.ImageFile]
# First bytes, name, decoder. The decoders are called by themselves, because PIL.Image.open warns of large
# pictures through the warnings of the whole process, which threads share.
_FORMATS: tuple[tuple[bytes, str, _Opener], ...] = (
    (b"\xff\xd8\xff", "JPEG", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImagePlugin.PngImageFile),
    (b"GIF87a", "GIF", GifImagePlugin.GifImageFile),
    (b"GIF89a", "GIF", GifImagePlugin.GifImageFile),
    (b"BM", "BMP", BmpImagePlugin.BmpImageFile),
    (b"II*\x00", "TIFF", TiffImagePlugin.TiffImageFile),
    (b"MM\x00*", "TIFF", TiffImagePlugin.TiffImageFile),
    (b"II+\x00", "TIFF", TiffImagePlugin.TiffImageFile),
    (b"MM\x00+", "TIFF", TiffImagePlugin.TiffImageFile),
)


class PictureError(Exception):
    """A picture that cannot be used. No user error: a job counts it and goes on.

    Attributes:
        reason: why, in a line; what stands before a colon is the same for pictures with the same defect.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_picture(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode a picture; safe to call from many threads.

    Args:
        data: content of a file.
        max_pixels: width times height that is still decoded.

    Returns:
        The picture, upright and in mode RGB.

    Raises:
        PictureError: it cannot be used; the reason is one of: empty file, not a picture, too large, too narrow,
            truncated, broken, not finite.
    """
    if not data:
        raise PictureError("empty file")
    name, opener = _format_of(data)
    try:
        picture = opener(io.BytesIO(data))
        _check_size(*picture.size, max_pixels)
        picture.load()
        return _to_rgb(_turn_upright(picture))
    except (PictureError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        # Pillow has a limit of its own, which some decoders hold before they give the size.
        raise PictureError(f"too large: {error}") from error
    except Exception as error:
        # Decoders meet foreign bytes with errors of almost any class; all say that the picture is broken.
        raise PictureError(_explain(name, data, error)) from error


def _format_of(data: bytes) -> tuple[str, _Opener]:
    for signature, name, opener in _FORMATS:
        if data.startswith(signature):
            return name, opener
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP", WebPImagePlugin.WebPImageFile
    raise PictureError("not a picture: neither JPEG, PNG, WebP, GIF, BMP nor TIFF")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PictureError(f"too large: {width} x {height} pixels, expected at most {max_pixels}")
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise PictureError(f"too narrow: {width} x {height} pixels, expected sides within a factor of {_MAX_ASPECT}")


def _explain(name: str, data: bytes, error: Exception) -> str:
    message = " ".join(str(error).split()) or type(error).__name__
    cut_short = "truncated" in message.lower()
    if name == "WebP":
        # Its decoder does not say; but the header says how many bytes follow the first eight.
        cut_short = int.from_bytes(data[4:8], "little") + 8 > len(data)
    return f"{'truncated' if cut_short else 'broken'} {name}: {message}"


def _turn_upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001
        # The pixels are whole; notes about them that cannot be parsed are no reason to lose them.
        orientation = None
    method = _RIGHTED_BY.get(orientation) if isinstance(orientation, int) else None
    if method is None:
        return picture
    return picture.transpose(method)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in _SIXTEEN_BITS:
        return _grey(_scale_sixteen_bits(picture))
    if picture.mode in ("I", "F"):
        return _grey(_stretch(np.asarray(picture, dtype=np.float64)))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _scale_sixteen_bits(picture: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(picture).astype(np.uint32)
    # 257 = 65535 / 255, rounded to the nearest.
    scaled = ((values + 128) // 257).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        scaled[values == transparent] = 255
    return scaled


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise PictureError("not finite: a number of the picture is NaN or infinite")
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(values.shape, np.uint8)
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8)


def _grey(values: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")
