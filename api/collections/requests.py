"""What goes into the routes of collections and their transfers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from api.http.request_models import BodyModel, CallbackUrl, CollectionName, QueryModel
from shared.storage.parquet import FILE_COLUMNS, FileColumn

ModelName = Annotated[str, Field(min_length=1, max_length=1024)]
ExportedFile = TypeAliasType("ExportedFile", FileColumn)


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class CollectionRequest(BodyModel):
    """A collection to create."""

    model_config = _example({"name": "cats", "model": "google/siglip2-base-patch32-256"})

    name: CollectionName
    model: ModelName | None = Field(
        None,
        description="what encodes its pictures, if not the server's default model: a Hugging Face id, "
        "`starter`, or a folder below the server's MODELS_FOLDER. Needs `admin`",
    )


class CollectionPath(BaseModel):
    name: str = Field(description="the collection's name", json_schema_extra={"example": "images"})


class ExportRequest(BodyModel):
    """What to export of each picture beside what is known of it."""

    model_config = _example({"include": ["thumbnail"]})

    include: list[ExportedFile] = Field(
        [], max_length=len(FILE_COLUMNS), description="WebP files to export with each picture"
    )
    callback_url: CallbackUrl = None


class ImportRequest(BodyModel):
    """An export on this server to import."""

    model_config = _example({"export": "4f0c2b7d9e81a6c35b0f1d24"})

    export: str = Field(description="the id of a finished export job on this server")
    callback_url: CallbackUrl = None


class ReindexRequest(BodyModel):
    """The model to encode a collection with."""

    model_config = _example({"model": "openai/clip-vit-large-patch14", "allow_missing": False})

    model: str = Field(
        min_length=1,
        max_length=1024,
        description="Hugging Face id, `starter`, or a folder that is the same on every machine",
    )
    allow_missing: bool = Field(False, description="leave out pictures that cannot be encoded again")
    callback_url: CallbackUrl = None


class ImportQuery(QueryModel):
    callback_url: CallbackUrl = Field(None, description="for an uploaded file")
