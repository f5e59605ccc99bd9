"""The Python client of image-search: `Client`, `AsyncClient`, and what they return.

from image_search import Client

with Client("http://127.0.0.1:8000") as client:
    client.ingest("photos").wait(progress=True)
    for hit in client.search("a red car").results:
        print(hit.score, hit.source)
"""

from image_search._bodies import Unsent
from image_search._client import AsyncClient, Client
from image_search._handles import AsyncJobHandle, JobHandle, Progress
from image_search._operations.images import Deletion
from image_search._operations.jobs import Source
from image_search._operations.search import ImageLike, Term
from image_search.errors import ApiError, ClientError, InvalidSource, NotInstalled
from image_search.models import (
    Collection,
    CollectionMetadata,
    Comparison,
    DuplicateGroup,
    DuplicatePage,
    Embedding,
    HeatMap,
    Hit,
    Image,
    ImagePage,
    Item,
    ItemPage,
    Job,
    JobError,
    JobPage,
    Metadata,
    ModelState,
    Note,
    Readiness,
    SearchResult,
    SimilarResult,
    System,
    TablePreview,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "ClientError",
    "Collection",
    "CollectionMetadata",
    "Comparison",
    "Deletion",
    "DuplicateGroup",
    "DuplicatePage",
    "Embedding",
    "HeatMap",
    "Hit",
    "Image",
    "ImageLike",
    "ImagePage",
    "InvalidSource",
    "Item",
    "ItemPage",
    "Job",
    "JobError",
    "JobHandle",
    "JobPage",
    "Metadata",
    "ModelState",
    "NotInstalled",
    "Note",
    "Progress",
    "Readiness",
    "SearchResult",
    "SimilarResult",
    "Source",
    "System",
    "TablePreview",
    "Term",
    "Unsent",
]

for _name in __all__:  # so that errors and `help` name what users import, not the module that it lies in
    if isinstance(globals()[_name], type):  # not one of the names for annotations
        globals()[_name].__module__ = __name__
del _name
