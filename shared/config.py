"""Every setting, read in one place. docs/settings.md says what each means; a guard test compares."""

import os
import re
import ssl
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from limits import parse_many
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import ConfigError
from shared.urls.origins import check_origin

PREFIX = "IMAGE_SEARCH_"
CLIENT_VARIABLES = frozenset({"API_KEY"})
NO_RATE_LIMIT = "off"
WHOLE_DOWNLOAD = 10  # times FETCH_TIMEOUT_S


class Settings(BaseSettings):
    """All settings, one field per variable `IMAGE_SEARCH_<NAME>`; the environment wins over `.env`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    broker_url: str | None = None
    chroma_url: str = "http://127.0.0.1:8001"
    chroma_tenant: str = "default_tenant"
    chroma_database: str = "default_database"
    chroma_token: SecretStr | None = None
    url: str | None = None
    blob_url: str = "file://./data/blobs"
    model: str = "auto"
    models_loaded: int = Field(2, ge=1, le=64)
    models_folder: Path | None = None
    source_folders: Annotated[list[Path], NoDecode] = Field(default_factory=list)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    chunk_size: int = Field(64, ge=1, le=1024)
    batch_size: int = Field(32, ge=1, le=4096)
    fetch_concurrency: int = Field(16, ge=1, le=256)
    fetch_timeout_s: float = Field(20.0, gt=0, le=600)
    fetch_user_agent: str | None = None
    fetch_headers: Path | None = None
    ca_bundle: Path | None = None
    max_image_bytes: int = Field(50 * 2**20, ge=1)
    max_image_pixels: int = Field(100_000_000, ge=1)
    max_upload_bytes: int = Field(2 * 2**30, ge=1)
    allow_hosts: Annotated[list[str], NoDecode] = Field(default_factory=list)
    allow_origins: Annotated[list[str], NoDecode] = Field(default_factory=list)
    host_rate: float = Field(20.0, gt=0, le=10_000)
    refused_robots_tags: Annotated[list[str], NoDecode] = Field(default_factory=list)
    job_ttl_days: float = Field(7.0, gt=0)
    max_jobs_per_key: int = Field(10_000, ge=1)
    max_job_bytes_per_key: int = Field(20 * 2**30, ge=1)
    keep: Literal["rendition", "original", "none"] = "rendition"
    callback_secret: SecretStr | None = None
    tag_vocabulary: Path | None = None
    tag_min_score: float | None = Field(None, ge=0, le=1)
    nsfw_max: float | None = Field(None, ge=0, le=1)
    rate_limit: str = "1200/minute"
    metrics_port: int | None = Field(None, ge=1, le=65_535)
    metrics_host: str = "127.0.0.1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @field_validator("allow_hosts", "allow_origins", "refused_robots_tags", "source_folders", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("allow_origins")
    @classmethod
    def _check_origins(cls, value: list[str]) -> list[str]:
        return [check_origin(origin) for origin in value]

    @field_validator("source_folders")
    @classmethod
    def _check_folders(cls, value: list[Path]) -> list[Path]:
        if relative := next((folder for folder in value if not folder.is_absolute()), None):
            raise ValueError(f"{relative} is not an absolute path")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _check_rate_limit(cls, value: str) -> str:
        if value == NO_RATE_LIMIT:
            return value
        with suppress(ValueError):
            if all(limit.amount > 0 for limit in parse_many(value)):
                return value
        raise ValueError(
            f"{value!r} is neither `off` nor a rate such as `1200/minute` or `9/second;500/hour`"
        )

    @field_validator("fetch_user_agent")
    @classmethod
    def _check_user_agent(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[!-~][ -~]{0,255}", value):
            raise ValueError(f"{value!r} is not at most 256 printable ASCII characters")
        return value

    @field_validator("ca_bundle")
    @classmethod
    def _check_ca_bundle(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        with suppress(OSError):  # an SSLError is one, too
            if value.is_file():  # a pipe can be read once, and by one process
                ssl.create_default_context(cafile=value)
                return value
        raise ValueError(f"{value} is no file of certificates in PEM")

    @property
    def whole_download_s(self) -> float:
        """Return the most seconds that one download may take, however steadily it comes."""
        return WHOLE_DOWNLOAD * self.fetch_timeout_s

    @cached_property
    def celery_broker_url(self) -> str:
        """The broker's URL as Celery spells it: `redis+socket://` where redis-py says `unix://`."""
        url = self.broker_url or self.redis_url
        return url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


def load_settings() -> Settings:
    """Read the settings from the environment and `.env`.

    Raises ConfigError, in one line that names the variable, for an unknown or malformed one.
    """
    known = {name.upper() for name in Settings.model_fields} | CLIENT_VARIABLES
    for name in sorted(os.environ) + sorted(_dotenv_names()):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known:
            raise ConfigError(f"{name} is not a setting; docs/settings.md lists them")
    try:
        return Settings()
    except ValidationError as error:
        fault = error.errors()[0]
        name = PREFIX + str(fault["loc"][0]).upper()
        raise ConfigError(f"{name}: {fault['msg'].removeprefix('Value error, ')}") from None


def _dotenv_names() -> list[str]:
    path = Path(".env")
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("=", 1)[0].removeprefix("export ").strip() for line in lines if "=" in line]
