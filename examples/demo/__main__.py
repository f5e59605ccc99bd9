"""`make demo`: starts the stack, ingests pictures through the HTTP API as one job, searches, keeps serving.

SOURCE (optional) is a folder of pictures or a .txt of URLs; without it OpenMoji's drawings are used.
DEMO_EXIT=1 ends everything after the searches. The data stays in `data/demo…` for the next start.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy.data_folder import Folder
from deploy.embedded import API_START_SECONDS
from deploy.ports import check_port_free, http_status
from deploy.supervisor import die_with_parent
from examples.demo.pictures import Pictures, openmoji, own_folder, serving
from image_search import ApiError, Client, SearchResult
from shared.config import PREFIX, Settings, load_settings
from shared.errors import ConfigError, ImageSearchError
from shared.models import JsonObject

DATA = Path("data")
PORT = 8000
TOP = 5
STOP_SECONDS = 20.0
QUERIES = ("a red car", "a happy face", "fruit", "a boat on the water", "bicycle")
LIKE = "elephant.png"

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Source:
    """What to ingest: local pictures, which need a server, or `urls`."""

    name: str
    pictures: Pictures | None
    urls: Sequence[str] = ()


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 after DEMO_EXIT or Ctrl-C, 1 when something could not be had."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _demo(arguments[0] if arguments else "", leave=os.environ.get("DEMO_EXIT") == "1")
    except KeyboardInterrupt:
        return 0
    except (ImageSearchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _demo(given: str, *, leave: bool) -> None:
    settings = load_settings()
    source = _source(given)
    data = Folder((DATA / source.name).absolute())
    data.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    data.run.mkdir(exist_ok=True, mode=0o700)
    with _stack(settings, data) as (url, stack), Client(url) as client, _served(source, data) as items:
        _ingest(client, url, items, data.root / "job.json")
        for text in QUERIES:
            _show(f'"{text}"', client.search(text, limit=TOP))
        _search_by_picture(client, source)
        page = url if http_status(url) == 200 else f"{url}/docs"
        console.print(f"\nOpen [bold]{page}[/] in a browser.")
        if not leave:
            console.print("Ctrl-C stops; the data stays for the next start.")
            stack.wait()


@contextmanager
def _served(source: Source, data: Folder) -> Iterator[list[JsonObject]]:
    """The job's items; local pictures are served while the block runs."""
    if source.pictures is None:
        yield [{"url": url} for url in source.urls]
        return
    with serving(source.pictures.folder, data.remembered_port("pictures")) as url:
        yield source.pictures.items(url)


def _source(given: str) -> Source:
    if not given:
        console.print("Preparing the pictures…")
        pictures = openmoji(DATA.absolute() / "openmoji")
        console.print(f"{len(pictures.metadata)} drawings. {pictures.credit}")
        return Source("demo", pictures)
    path = Path(given).expanduser().absolute()
    name = f"demo-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if path.is_dir():
        return Source(name, own_folder(path))
    if not path.is_file():
        raise ConfigError(f"{given} is neither a folder of pictures nor a file of URLs")
    urls = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not urls:
        raise ConfigError(f"{given} has no URL")
    return Source(name, None, urls)


@contextmanager
def _stack(settings: Settings, data: Folder) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs `image-search up` while the block runs; yields its URL, once ready, and its process."""
    port = _port(data)
    environment = {
        **os.environ,
        f"{PREFIX}ALLOW_HOSTS": ",".join([*settings.allow_hosts, "127.0.0.1"]),
    }
    command = [sys.executable, "-m", "deploy.cli", "up", "--data-dir", str(data.root), "--port", str(port)]
    # In a session of its own, so that Ctrl-C comes here alone and the stop is in order.
    process = subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - there is one thread yet
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + API_START_SECONDS
        while http_status(f"{url}/readyz") != 200:
            if process.poll() is not None:
                raise ConfigError("the stack did not start; the line above says why")
            if time.monotonic() > deadline:
                raise ConfigError(f"{url}/readyz did not answer 200 within {API_START_SECONDS:.0f} s")
            time.sleep(0.2)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _port(data: Folder) -> int:
    try:
        check_port_free("127.0.0.1", PORT)
    except ConfigError:
        return data.remembered_port("api")
    return PORT


def _ingest(client: Client, url: str, items: Sequence[JsonObject], record: Path) -> None:
    """One bulk job of all items, unless an earlier start made it: `record` holds its id."""
    digest = hashlib.sha256(json.dumps([item.get("metadata", item) for item in items]).encode())
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if known.get("digest") != digest.hexdigest():
        job_id = client.ingest_urls(items).job_id
        record.write_text(json.dumps({"digest": digest.hexdigest(), "job_id": job_id}), encoding="utf-8")
    elif _is_over(client, known["job_id"]):
        console.print(f"The pictures of the last start are still there: {len(items)}.")
        return
    else:
        job_id = known["job_id"]
    subprocess.run(
        [sys.executable, "-m", "deploy.cli", "status", job_id, "--watch", "--url", url],
        check=False,  # some pictures of the user's may fail: the table says which
    )


def _is_over(client: Client, job_id: str) -> bool:
    try:
        return client.job(job_id).finished
    except ApiError as error:
        if error.http_status == 404:  # finished long ago, and forgotten
            return True
        raise


def _search_by_picture(client: Client, source: Source) -> None:
    if source.pictures is None:
        url = source.urls[0]
        _show(f"pictures like {url}", client.search(images=[url], limit=TOP))
        return
    names = source.pictures.metadata
    name = LIKE if LIKE in names else next(iter(names))
    _show(f"pictures like {name}", client.search(images=[source.pictures.folder / name], limit=TOP))


def _show(query: str, answer: SearchResult) -> None:
    console.print(f"\n[bold]{query}[/]  ({answer.took_ms.total:.0f} ms)")
    for hit in answer.results:
        console.print(f"  {hit.score:6.3f}  {(hit.metadata or {}).get('name') or hit.source}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
