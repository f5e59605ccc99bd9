"""`image-search up` with short waits, whose children reach Redis and Chroma through the harness's ports."""

import os
from pathlib import Path

from deploy import embedded
from deploy.data_folder import Folder
from shared.config import Settings
from tests import short_waits

REDIS_PORT, CHROMA_PORT = "FAULTS_REDIS_PORT", "FAULTS_CHROMA_PORT"
_environment = embedded._environment


def redis_socket(data_dir: Path) -> Path:
    """Where `up` has Redis listen: the folder's path must be short."""
    return Folder(data_dir).run / "redis.sock"


def chroma_port(data_dir: Path) -> int:
    return int((Folder(data_dir).run / "chroma.port").read_text())


def _through_proxies(folder: Folder, settings: Settings, variables: dict[str, str]) -> dict[str, str]:
    redis = f"redis://127.0.0.1:{os.environ[REDIS_PORT]}/0"
    chroma = f"http://127.0.0.1:{os.environ[CHROMA_PORT]}"
    own = {"REDIS_URL": redis, "BROKER_URL": redis, "CHROMA_URL": chroma}
    return _environment(folder, settings, variables | own)


if __name__ == "__main__":
    embedded._environment = _through_proxies
    short_waits.main(short_waits.__name__)
