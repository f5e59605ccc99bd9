"""nginx, with deploy/nginx.conf made by the command of docs/deployment.md, in front of the real stack."""

import json
import os
import pwd
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.ports import free_port
from shared.api_keys import create_key
from shared.storage.blobs import Blobs
from tests.image_server import ImageServer, make_photo
from tests.stack import ROOT, Stack, eventually, finished
from tests.system import programs

NAME = "pictures.example.org"
AROUND = """
user {user};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/shown.conf;
}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("behind")) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of nginx's, without a key."""
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    certificate, private = folder / "certificate.pem", folder / "private.pem"
    make_certificate(certificate, private)
    own = {
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        f"/etc/letsencrypt/live/{NAME}/fullchain.pem": str(certificate),
        f"/etc/letsencrypt/live/{NAME}/privkey.pem": str(private),
        "http://127.0.0.1:8000": stack.url,
    }
    (folder / "shown.conf").write_text(shown(own), encoding="utf-8")
    user = pwd.getpwuid(os.geteuid()).pw_name
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user), encoding="utf-8")
    program = programs.find("nginx")
    assert program, "make test-system installs it"
    process = subprocess.Popen([program, "-e", "stderr", "-c", folder / "nginx.conf"])
    trust = ssl.create_default_context(cafile=certificate)
    with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=60) as client:
        try:
            eventually(lambda: process.poll() is not None or answers(client))
            assert process.poll() is None, "nginx has ended"
            yield client
        finally:
            process.terminate()
            process.wait(20)


def shown(own: dict[str, str]) -> str:
    """The configuration that the docs' command writes, with addresses and files of our own."""
    commands = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^(sed .*) \| sudo tee /etc/nginx/", commands, re.M)
    run = ["bash", "-euc", command]
    text = subprocess.run(
        run, cwd=ROOT, env={**os.environ, "NAME": NAME}, check=True, capture_output=True, text=True
    ).stdout
    assert "search.example.com" not in text
    for theirs, ours in own.items():
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, ours)
    return text


def make_certificate(certificate: Path, private: Path) -> None:
    program = programs.find("openssl")
    assert program, "make test-system installs it"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [program, "req", *kind, *name, "-keyout", private, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def http(proxy: httpx.Client, stack: Stack) -> httpx.Client:
    refused = proxy.get("/v1/jobs", headers={"Host": NAME})
    assert refused.status_code == 403, "nobody may come in from outside before there is a key"
    key = create_key(Blobs(stack.env["IMAGE_SEARCH_BLOB_URL"]), "nginx", ["search", "ingest"])
    proxy.headers["Authorization"] = f"Bearer {key}"
    eventually(lambda: proxy.get("/v1/jobs").status_code == 200)
    return proxy


def test_an_upload_is_searched_through_nginx_as_without_it(http: httpx.Client) -> None:
    photos = [make_photo(seed, 2400, 1800) for seed in (1, 2)]
    assert len(photos[0]) > 2**20, "nginx takes no larger body if it is not told to"
    files = [("files", (f"{number}.jpg", photo)) for number, photo in enumerate(photos)]
    accepted = http.post("/v1/jobs", files=files, data={"collection": "uploads"})
    assert re.fullmatch(r"[0-9a-f-]{36}", accepted.headers["X-Request-ID"])
    assert finished(http, accepted)["counts"]["indexed"] == 2

    by_text = http.post("/v1/search", json={"text": "a photo", "collection": "uploads"})
    assert {hit["source"] for hit in by_text.json()["results"]} == {"0.jpg", "1.jpg"}
    query = {"query": json.dumps({"collection": "uploads"})}
    by_image = http.post("/v1/search", files={"image": ("query.jpg", photos[1])}, data=query)
    best = by_image.json()["results"][0]
    assert best["source"] == "1.jpg"
    assert http.get(best["thumbnail_url"]).headers["Content-Type"] == "image/webp"

    named = http.get("/v1/collections/none", headers={"X-Request-ID": "from-outside"})
    assert named.headers["X-Request-ID"] == "from-outside"
    assert named.headers["Content-Type"] == "application/problem+json"


def test_events_come_through_nginx_when_they_happen(http: httpx.Client) -> None:
    with ImageServer() as pictures:
        accepted = http.post("/v1/jobs", json={"urls": [pictures.url("/photo/3.jpg?w=64&h=64&ms=3000")]})
        job = accepted.headers["Location"]
        events: list[str] = []
        with http.stream("GET", f"{job}/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("event:"):
                    events.append(line.removeprefix("event: "))
                elif line.startswith("data:") and len(events) == 1:
                    assert json.loads(line.removeprefix("data:"))["finished_at"] is None
                    assert http.get(job).json()["finished_at"] is None, "the first event waited for the last"
    assert events[0] == "status"
    assert events[-1] == "end"
