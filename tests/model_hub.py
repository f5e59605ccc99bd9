"""A model hub on this machine, and its cache."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", url, raising=False)


def _are_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def cache_as(hub_cache: Path, model: str, folder: Path) -> Path:
    repo = hub_cache / f"models--{model.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, repo / "snapshots" / COMMIT))


@contextmanager
def served_hub(
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    files: dict[str, bytes],
    kind: str | None = "clip",
    sizes: dict[str, int] | None = None,
    *,
    statuses: dict[str, int] | None = None,
    otherwise: int = 404,
    digests: bool = True,
    gate: threading.Event | None = None,
) -> Iterator[list[str]]:
    """A hub on loopback that holds `model` alone, and answers `otherwise` to all else.

    Yields the names of the files that were downloaded. It says `kind` of the model, and of files the `sizes`,
    whatever they have; a file is answered as `statuses` say. Weights are in LFS, with their SHA-256, unless
    not `digests`; only half of each comes before the `gate` is open, and then a byte a second.
    """
    downloads: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path in (f"/api/models/{model}", f"/api/models/{model}/revision/main"):
                siblings = [
                    {"rfilename": name, "size": (sizes or {}).get(name, len(data)), **self.lfs(name, data)}
                    for name, data in files.items()
                ]
                about = {"config": {"model_type": kind}} if kind else {}
                self.reply({"id": model, "sha": COMMIT, "siblings": siblings} | about)
            elif path == f"/api/models/{model}/tree/{COMMIT}":
                self.reply(
                    [
                        {
                            "type": "file",
                            "path": name,
                            "size": len(data),
                            "oid": hashlib.sha1(data).hexdigest(),
                        }
                        for name, data in files.items()
                    ]
                )
            elif path.startswith(f"/{model}/resolve/{COMMIT}/"):
                name = path.partition(f"/resolve/{COMMIT}/")[2]
                if self.command == "GET":
                    downloads.append(name)
                status = (statuses or {}).get(name, 200)
                held = gate if self.command == "GET" and _are_weights(name) else None
                body = files[name] if status == 200 else {"error": "no"}
                etag = self.lfs(name, files[name])["blobId"] if status == 200 else ""
                self.reply(body, status, "EntryNotFound", etag=etag, gate=held)
            else:
                self.reply({"error": "Repository not found"}, status=otherwise)

        def lfs(self, name: str, data: bytes) -> dict[str, Any]:
            if not (digests and _are_weights(name)):
                return {"blobId": hashlib.sha1(data).hexdigest()}
            sha256 = hashlib.sha256(data).hexdigest()
            return {"blobId": sha256, "lfs": {"sha256": sha256, "size": len(data), "pointerSize": 134}}

        def reply(
            self,
            body: object,
            status: int = 200,
            absent: str = "RepoNotFound",
            *,
            etag: str = "",
            gate: threading.Event | None = None,
        ) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{etag or hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if status == 404:
                self.send_header("X-Error-Code", absent)
            self.end_headers()
            if self.command == "GET":
                sent = len(data) // 2 if gate else 0
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(data[:sent])
                    while gate and not gate.wait(1):  # else the client would give up
                        self.wfile.write(data[sent : sent + 1])
                        sent += 1
                    self.wfile.write(data[sent:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    try:
        yield downloads
    finally:
        server.shutdown()
        server.server_close()
