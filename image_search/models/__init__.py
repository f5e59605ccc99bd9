"""What the API answers, as pydantic models, the same for server and client. Imports no other room."""

from image_search.models.collections import Collection, CollectionList, CollectionMetadata, MetadataName
from image_search.models.duplicates import Duplicate, DuplicateGroup, DuplicatePage
from image_search.models.images import Embedding, Image, ImagePage, Metadata, MetadataValue
from image_search.models.jobs import Failure, Item, ItemPage, Job, JobError, JobPage, Note, Retrying
from image_search.models.problem import FieldProblem, Problem
from image_search.models.search import (
    Comparison,
    Contribution,
    FacetCount,
    FacetScope,
    HeatMap,
    Hit,
    SearchResult,
    SimilarResult,
    Took,
)
from image_search.models.sources import Run, Source, SourcePage
from image_search.models.system import (
    Dependency,
    JobsState,
    LastError,
    LoadedModel,
    ModelList,
    ModelState,
    Queue,
    Readiness,
    System,
    Worker,
    Workers,
)
from image_search.models.tables import TableColumn, TablePreview, TableRow

__all__ = [
    "Collection",
    "CollectionList",
    "CollectionMetadata",
    "Comparison",
    "Contribution",
    "Dependency",
    "Duplicate",
    "DuplicateGroup",
    "DuplicatePage",
    "Embedding",
    "FacetCount",
    "FacetScope",
    "Failure",
    "FieldProblem",
    "HeatMap",
    "Hit",
    "Image",
    "ImagePage",
    "Item",
    "ItemPage",
    "Job",
    "JobError",
    "JobPage",
    "JobsState",
    "LastError",
    "LoadedModel",
    "Metadata",
    "MetadataName",
    "MetadataValue",
    "ModelList",
    "ModelState",
    "Note",
    "Problem",
    "Queue",
    "Readiness",
    "Retrying",
    "Run",
    "SearchResult",
    "SimilarResult",
    "Source",
    "SourcePage",
    "System",
    "TableColumn",
    "TablePreview",
    "TableRow",
    "Took",
    "Worker",
    "Workers",
]
