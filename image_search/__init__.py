"""The client of the HTTP API, for programs and the command line. Imports `models`."""

from image_search._client import AsyncClient, Client
from image_search._core import ApiError
from image_search._handles import AsyncJobHandle, JobHandle

__all__ = ["ApiError", "AsyncClient", "AsyncJobHandle", "Client", "JobHandle"]
