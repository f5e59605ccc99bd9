"""The client of the HTTP API, for programs and the command line. Imports `models`."""

from api.client.client import AsyncClient, Client
from api.client.core import ApiError
from api.client.handles import AsyncJobHandle, JobHandle

__all__ = ["ApiError", "AsyncClient", "AsyncJobHandle", "Client", "JobHandle"]
