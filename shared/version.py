"""The installed version of this package."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("image-search")
except PackageNotFoundError:
    VERSION = "0"
