"""A file that ends too early says so, in every format."""

import contextlib

import pytest

from shared.errors import ItemError
from tests.sample_files import samples
from tests.unit.shared.imaging.pictures import failure, read

# Pillow warns of the damage that these tests do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

# Of several pictures the first may be all there.
SINGLE = [name for name in samples() if "several" not in name and "animated" not in name]


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_half_a_file_is_cut_off(name: str, share: float) -> None:
    data = samples()[name]
    with pytest.raises(ItemError, match="the picture is cut off") as caught:
        read(data[: int(len(data) * share)])
    assert caught.value.code == "corrupt_image"


@pytest.mark.parametrize("name", [name for name in SINGLE if name.startswith("tiff")])
def test_a_tiff_without_the_last_of_its_numbers_is_of_no_other_kind(name: str) -> None:
    """How many bits its samples have may be the last that it says."""
    data = samples()[name]
    for cut in range(1, 24):
        with contextlib.suppress(ItemError):
            read(data[:-cut])
            continue
        assert failure(data[:-cut]) == "corrupt_image"


@pytest.mark.parametrize("name", ["png", "gif", "tiff, palette"])
def test_one_that_is_damaged_is_not(name: str) -> None:
    data = samples()[name]
    middle = len(data) // 2
    zeroed = data[: middle - 200] + bytes(400) + data[middle + 200 :]
    with pytest.raises(ItemError, match="damaged or incomplete"):
        read(zeroed)
    assert failure(zeroed) == "corrupt_image"
