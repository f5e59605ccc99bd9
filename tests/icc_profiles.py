"""ICC profiles, built byte by byte, of monitors, greys, presses and scanners; colours to judge them by."""

import functools
import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from shared.image_files.color_spaces import ADOBE_RGB, ADOBE_RGB_GAMMA, matrix_profile
from shared.imaging.color_profiles import to_srgb

Floats = NDArray[np.float64]

DISPLAY_P3 = matrix_profile((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06))
ADOBE = matrix_profile(ADOBE_RGB, ADOBE_RGB_GAMMA)
PROPHOTO = matrix_profile((0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), 1.8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# XYZ (D50) of sRGB's light: http://www.brucelindbloom.com/index.html?Eqn_RGB_XYZ_Matrix.html
_SRGB_TO_XYZ = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
_D50 = (0.96422, 1.0, 0.82521)
_D50_FIXED = struct.pack(">3i", 63190, 65536, 54061)
# As a press prints cyan, magenta, yellow and black: none is a pure colour.
_INKS = np.array([(0, 174, 239), (236, 0, 140), (255, 242, 0), (35, 31, 32)])


def linear(levels: Floats) -> Floats:
    """The light, 0 to 1, of sRGB's levels, 0 to 255 (IEC 61966-2-1)."""
    share = levels / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def levels(light: Floats) -> Floats:
    """The levels, 0 to 255, of sRGB's light."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def lab(srgb: Floats) -> Floats:
    """CIE L*a*b* (D50) of sRGB's levels."""
    ratio = linear(srgb) @ np.transpose(_SRGB_TO_XYZ) / _D50
    x, y, z = np.moveaxis(
        np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116), -1, 0
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def lab_bytes(srgb: Floats) -> NDArray[np.uint8]:
    """L*a*b* as eight bits hold it, a* and b* from 128."""
    return np.clip(np.round(lab(srgb) * (2.55, 1, 1) + (0, 128, 128)), 0, 255).astype(np.uint8)


def inked(cmyk: Floats) -> Floats:
    """sRGB's levels of inks, 0 to 1, of the press."""
    return levels(np.prod(1 - cmyk[..., None] * (1 - linear(_INKS)), axis=-2))


def icc(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes], version: int = 0x02400000) -> bytes:
    """A profile of a class, a colour space, and what its tags hold."""
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), version, kind, space, pcs, b"acsp")
    return (head + _D50_FIXED).ljust(128, b"\0") + table + body


def gray(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH2x", 1, round(gamma * 256))
    return icc(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve, b"wtpt": b"XYZ " + bytes(4) + _D50_FIXED})


def _table(inputs: int, grid: int, colors: NDArray[np.uint8]) -> bytes:
    """A table (mft1) of colours for `grid` levels of each of the inputs."""
    matrix = struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    curve = bytes(range(256))
    head = b"mft1" + bytes(4) + bytes([inputs, 3, grid, 0]) + matrix
    return head + curve * inputs + colors.tobytes() + curve * 3


@functools.cache
def press(grid: int = 9) -> bytes:
    """Of CMYK, by a table: what `inked` says."""
    inks = np.moveaxis(np.indices((grid,) * 4), 0, -1) / (grid - 1)
    return icc(b"prtr", b"CMYK", b"Lab ", {b"A2B0": _table(4, grid, lab_bytes(inked(inks)))})


@functools.cache
def scanner(grid: int = 17) -> bytes:
    """Of RGB, by a table: what it calls red is blue."""
    colors = np.moveaxis(np.indices((grid,) * 3), 0, -1) / (grid - 1) * 255
    return icc(b"scnr", b"RGB ", b"Lab ", {b"A2B0": _table(3, grid, lab_bytes(colors[..., ::-1]))})


def chain(links: int) -> bytes:
    """Of RGB, whose colours go through the same table again and again (D2B0)."""
    count, grid = 3 * 20**3, struct.pack(">HH16s", 3, 3, bytes([20] * 3))
    table = b"clut" + bytes(4) + grid + np.linspace(0, 1, count, dtype=">f4").tobytes()
    place = struct.pack(">II", 16 + 8 * links, len(table))
    whole = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, links) + place * links + table
    return icc(b"mntr", b"RGB ", b"XYZ ", {b"D2B0": whole, b"D2B1": whole}, 0x04300000)


def converted(image: Image.Image, profile: bytes) -> Image.Image:
    """An sRGB picture as the numbers of another RGB, and with its profile."""
    x, y = (ImageCms.ImageCmsProfile(io.BytesIO(one)) for one in (SRGB, profile))
    made = ImageCms.profileToProfile(image, x, y, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert made is not None
    del made.info["icc_profile"]
    return made


def applied(profile: bytes) -> str:
    """What the product makes of a profile, on a picture of each kind: for DecoderProcess."""
    for mode in ("L", "RGB", "RGBA", "CMYK"):
        image = to_srgb(Image.linear_gradient("L").resize((64, 64)).convert(mode), profile)
        assert image.size == (64, 64)
        assert image.mode == ("RGBA" if mode == "RGBA" else "RGB")
    return "picture"
