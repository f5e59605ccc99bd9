"""Parts of pictures: where a box lies, however the file is turned and however small it is decoded."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from shared.errors import InvalidRequest
from shared.imaging import decode
from shared.imaging.decode import WHOLE, Box, open_query_image
from tests.unit.shared.imaging.pictures import CLIP, difference, photo, save

PIXELS = 100_000_000


def part(data: bytes, box: Box, max_pixels: int = PIXELS) -> NDArray[np.uint8]:
    return open_query_image(data, CLIP, max_pixels, box=box)


def whole(image: Image.Image) -> NDArray[np.uint8]:
    return CLIP.crop(image, 1, *image.size)


def cut(image: Image.Image, box: Box) -> Image.Image:
    left, top, right, bottom = box
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round(right * width), round(bottom * height))
    )


@pytest.mark.parametrize(
    "box", [(0.25, 0.1, 0.75, 0.6), (0.0, 0.0, 0.5, 1.0), (0.9, 0.9, 1.0, 1.0), (0.334, 0.05, 0.338, 0.95)]
)
def test_a_box_is_what_the_cut_out_file_would_be(box: Box) -> None:
    image = photo(300, 200)
    assert np.array_equal(part(save(image, format="PNG"), box), whole(cut(image, box)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_lies_on_the_picture_as_it_is_shown(orientation: int) -> None:
    image = photo(320, 200)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = save(image, format="PNG", exif=exif)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    box = (0.5, 0.25, 1.0, 0.75)
    assert np.array_equal(part(data, box), whole(cut(shown, box)))


@pytest.mark.parametrize("size", [(300, 200), (1500, 1000)])
def test_a_box_of_all_is_the_whole_picture(size: tuple[int, int]) -> None:
    data = save(photo(*size), format="JPEG", quality=90)
    assert np.array_equal(part(data, WHOLE), open_query_image(data, CLIP, PIXELS))


@pytest.mark.parametrize("share", [0.8, 0.5, 0.3, 0.1])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_finely_enough_for_its_part(share: float, orientation: int) -> None:
    image = photo(1600, 1200)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = save(image, format="JPEG", quality=95, exif=exif)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    box = (0.1, 0.2, 0.1 + share, 0.2 + share)
    assert difference(part(data, box), whole(cut(shown, box))) < 2


def test_one_pixel_is_enough_and_less_is_not() -> None:
    data = save(photo(100, 50), format="PNG")
    assert part(data, (0.0, 0.0, 0.01, 0.02)).shape == (224, 224, 3)
    for box in ((0.0, 0.0, 0.004, 1.0), (0.0, 0.501, 1.0, 0.509), (0.5, 0.5, 0.5 + 1e-16, 1.0)):
        with pytest.raises(InvalidRequest, match="no area in a picture of 100 x 50 pixels"):
            part(data, box)


def test_a_part_of_a_jpeg_beyond_the_limit_of_pixels_is_read_at_half_its_size() -> None:
    image = photo(400, 300)
    data = save(image, format="JPEG", quality=95)
    box = (0.5, 0.5, 0.5035, 1.0)
    assert part(data, box, max_pixels=60_000).shape == (224, 224, 3)
    half = (0.5, 0.0, 1.0, 1.0)
    assert difference(part(data, half, max_pixels=60_000), whole(cut(image, half))) < 8


def test_a_small_part_of_a_large_picture_is_estimated_at_what_it_takes() -> None:
    data = save(Image.new("RGB", (4000, 3000)), format="JPEG")
    sizes = [decode.estimate(data, CLIP, PIXELS, (0.0, 0.0, share, share)) for share in (1.0, 0.5, 0.1)]
    assert sizes[0] < sizes[1] < sizes[2]
