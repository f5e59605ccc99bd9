"""The Python client of image-search: `Client`, `AsyncClient`, and what they return.

from image_search import Client

with Client("http://127.0.0.1:8000") as client:
    client.ingest("photos").wait(progress=True)
    for hit in client.search("a red car").results:
        print(hit.score, hit.source)
"""

from image_search._client import AsyncClient, Client
from image_search._handles import AsyncJobHandle, JobHandle
from image_search.errors import ApiError, ClientError, InvalidSource, NotInstalled
from image_search.models import (
    Collection,
    Comparison,
    DuplicateGroup,
    DuplicatePage,
    Embedding,
    Hit,
    Image,
    ImagePage,
    Item,
    ItemPage,
    Job,
    JobError,
    JobPage,
    Readiness,
    SearchResult,
    SimilarResult,
    System,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "ClientError",
    "Collection",
    "Comparison",
    "DuplicateGroup",
    "DuplicatePage",
    "Embedding",
    "Hit",
    "Image",
    "ImagePage",
    "InvalidSource",
    "Item",
    "ItemPage",
    "Job",
    "JobError",
    "JobHandle",
    "JobPage",
    "NotInstalled",
    "Readiness",
    "SearchResult",
    "SimilarResult",
    "System",
]

for _name in __all__:  # so that errors and `help` name what users import, not the module that it lies in
    globals()[_name].__module__ = __name__
