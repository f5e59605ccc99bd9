"""ICC profiles, built byte by byte: monitors', greys', presses' and scanners', and broken ones."""

import functools
import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from shared.image_files.color_spaces import ADOBE_RGB, ADOBE_RGB_GAMMA, matrix_profile
from shared.imaging.color_profiles import to_srgb

Floats = NDArray[np.float64]

D65 = (0.3127, 0.329)
DISPLAY_P3 = matrix_profile((*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06))
ADOBE = matrix_profile(ADOBE_RGB, ADOBE_RGB_GAMMA)
PROPHOTO = matrix_profile((0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), 1.8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# IEC 61966-2-1, adapted to D50 by Bradford (http://www.brucelindbloom.com, sRGB D50)
_TO_XYZ = np.array([[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]])  # fmt: skip # noqa: E501
_D50 = np.array([0.96422, 1.0, 0.82521])


def linear(srgb: Floats) -> Floats:
    """Light, 0 to 1, of sRGB's levels, 0 to 255."""
    level = srgb / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def levels(light: Floats) -> Floats:
    """sRGB's levels, 0 to 255, of light."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def lab(srgb: Floats) -> Floats:
    """CIE L*a*b* of sRGB's levels."""
    ratio = linear(srgb) @ _TO_XYZ.T / _D50
    x, y, z = np.moveaxis(np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def icc(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes], version: int = 0x02400000) -> bytes:
    """A profile of a class, a colour space, and what its tags hold."""
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">III4s4s4s12x4s", 132 + 12 * len(tags) + len(body), 0, version, kind, space, pcs, b"acsp")
    return (head + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + table + body


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def table_of(colors: Floats, inputs: int, grid: int) -> bytes:
    """A table of L*a*b* in eight bits (mft1), of `grid` levels of each of the inputs."""
    encoded = np.clip(np.round(colors * (2.55, 1, 1) + (0, 128, 128)), 0, 255).astype(np.uint8)
    matrix = struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    head = b"mft1" + bytes(4) + bytes([inputs, 3, grid, 0]) + matrix
    return head + bytes(range(256)) * inputs + encoded.tobytes() + bytes(range(256)) * 3


def gray(gamma: float) -> bytes:
    return icc(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve(gamma), b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)})


def inked(cmyk: Floats) -> Floats:
    """sRGB's levels of inks, 0 to 1, of a press whose cyan, magenta and black are no pure colours."""
    inks = np.array([[0, 174, 239], [236, 0, 140], [255, 242, 0], [35, 31, 32]])
    light = np.prod(1 - cmyk[..., None] * (1 - linear(inks)), axis=-2)
    return levels(light)


@functools.cache
def press() -> bytes:
    """Of CMYK."""
    steps = np.moveaxis(np.indices((9,) * 4), 0, -1) / 8
    return icc(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table_of(lab(inked(steps)), 4, 9)})


@functools.cache
def scanner() -> bytes:
    """Of RGB by a table: what it calls red is blue."""
    steps = np.moveaxis(np.indices((9,) * 3), 0, -1) / 8 * 255
    return icc(b"scnr", b"RGB ", b"Lab ", {b"A2B0": table_of(lab(steps[..., ::-1]), 3, 9)})


def png_with(profile: bytes, mode: str = "RGB") -> bytes:
    """A little PNG, or for CMYK a JPEG, with a profile."""
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize((16, 16)).convert(mode)
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG", icc_profile=profile)
    return buffer.getvalue()


def applied(profile: bytes) -> str:
    """What the product makes of a profile, on pictures of each kind: for DecoderProcess."""
    for mode in ("L", "RGB", "RGBA", "CMYK"):
        image = to_srgb(Image.linear_gradient("L").resize((64, 64)).convert(mode), profile)
        assert image.size == (64, 64) and image.mode == ("RGBA" if mode == "RGBA" else "RGB")
    return "picture"
