"""The Python client, its page of documentation, the example and a terminal's pictures on the real stack."""

import asyncio
import csv
import fcntl
import json
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import httpx
import pytest

from image_search import ApiError, AsyncClient, Client, _bodies
from image_search.models.jobs import Job
from shared.models import ItemState
from tests.faults.proxy import Proxy
from tests.image_server import ImageServer, make_photo
from tests.stack import ROOT, Stack, eventually

PHOTOS = 6


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as made:
        yield made


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "photos"
    folder.mkdir()
    for seed, name in enumerate("abcdef"[:PHOTOS]):
        (folder / f"{name}.jpg").write_bytes(make_photo(seed, 320, 240))
    return folder


def blocks(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_documentation_run(
    stack: Stack, pictures: ImageServer, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    base = pictures.url("").rstrip("/")
    Path("products.csv").write_text(f"url,sku,price\n{base}/photo/1.jpg,A1,9.5\n", encoding="utf-8")
    names: dict[str, object] = {"__name__": "docs"}
    found = blocks("docs/client.md")
    assert len(found) == 8
    for block in found:
        code = block.replace("http://127.0.0.1:8000", stack.url).replace("https://example.com", base)
        exec(compile(code, "docs/client.md", "exec"), names)
    assert Path("why.png").read_bytes().startswith(b"\x89PNG")
    assert Path("shop.parquet").read_bytes().startswith(b"PAR1")


def test_the_readme_s_block_works_as_it_stands(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = blocks("README.md")
    code = block.replace("http://127.0.0.1:8000", stack.url)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    status, *found = capsys.readouterr().out.splitlines()
    assert status.startswith("succeeded")
    assert {line.split()[1] for line in found} == {"docs/page-light.png", "docs/page-phone.png"}


def test_an_iterator_ends_as_a_job_with_every_item_told(client: Client, pictures: ImageServer) -> None:
    urls = [pictures.url(f"/photo/{number}.jpg") for number in range(20, 30)]
    seen: list[float] = []
    job = client.ingest(iter([*urls, pictures.url("/status/404")]), collection="told")
    done = job.wait(lambda status: seen.append(status.progress), timeout=90)
    assert (done.status, done.counts[ItemState.INDEXED], seen[-1]) == ("partial", 10, 1.0)
    (failed,) = job.items("failed")
    assert (failed.index, failed.code) == (10, "http_status")
    assert {item.source for item in job.items()} == {*urls, failed.source}
    assert {image.source for image in client.iter_images(collection="told")} == set(urls)
    assert client.system().errors
    with pytest.raises(ApiError, match="There is no"):
        client.image("0" * 64, collection="told")


def test_the_async_client_does_the_same_at_once(stack: Stack, pictures: ImageServer, photos: Path) -> None:
    async def urls() -> AsyncIterator[str]:
        for number in range(40, 50):
            yield pictures.url(f"/photo/{number}.jpg")

    async def use() -> None:
        async with AsyncClient(stack.url) as client:
            jobs = await asyncio.gather(
                client.ingest(urls(), collection="both"), client.ingest(photos, collection="both")
            )
            done = await asyncio.gather(*(job.wait(timeout=90) for job in jobs))
            assert [one.counts[ItemState.INDEXED] for one in done] == [10, PHOTOS]
            images = [image async for image in client.iter_images(collection="both")]
            assert len(images) == 10 + PHOTOS
            searches = (client.search(images=[image.id], collection="both") for image in images)
            answers = await asyncio.gather(*searches)
            assert [answer.results[0].id for answer in answers] == [image.id for image in images]
            again = await client.ingest(photos / "a.jpg", collection="both")
            assert (await again.wait(timeout=90)).counts[ItemState.DUPLICATE] == 1
            assert (await client.ready()).ready

    asyncio.run(use())


def test_a_key_that_is_sent_twice_is_one_job(client: Client, photos: Path) -> None:
    jobs = [client.ingest(photos, collection="twice", idempotency_key="files") for _ in range(2)]
    assert jobs[0].ids == jobs[1].ids
    urls = [client.ingest(iter(["http://127.0.0.1:9/x"]), idempotency_key="lines") for _ in range(2)]
    assert urls[0].ids == urls[1].ids


def test_a_table_of_any_kind_is_read_by_the_server(
    client: Client, pictures: ImageServer, tmp_path: Path
) -> None:
    urls = [pictures.url(f"/photo/{number}.jpg") for number in (90, 91)]
    rows = [{"Link": url, "Product Name": f"n{n}", "sku": f"00{n}"} for n, url in enumerate(urls)]
    table = pytest.importorskip("pyarrow").Table.from_pylist(rows)
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.Parquet")
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.NDJSON").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [";".join(rows[0]), *(";".join(row.values()) for row in rows)]
    (tmp_path / "d.csv").write_text("\r\n".join(lines), encoding="utf-16")
    (tmp_path / "e.txt").write_text("\n".join(line.replace(";", "\t") for line in lines))
    how = {"url_column": "Link", "key_column": "sku", "columns": ["Product Name"]}
    for path in sorted(tmp_path.iterdir()):
        preview = client.preview_table(path, **how)
        assert [row.url for row in preview.rows] == urls, path
        assert [(one.use, one.metadata_name) for one in preview.columns] == [
            ("url", None), ("metadata", "Product_Name"), ("key", None),
        ]  # fmt: skip
        job = client.ingest(path, collection=path.name, metadata={"shop": "north"}, **how)
        done = job.wait(timeout=90)
        assert (done.status, [note.code for note in done.notes]) == ("succeeded", ["column_renamed"])
        found = {
            (one.keys[0], one.metadata["Product_Name"]) for one in client.iter_images(collection=path.name)
        }
        assert found == {("000", "n0"), ("001", "n1")}
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    for call in (client.ingest, client.preview_table):
        with pytest.raises(ApiError, match=r"none\.csv: .*`a`, `b`"):
            call(tmp_path / "none.csv")
    job = client.ingest([tmp_path / "none.csv", tmp_path / "d.csv"], url_column="Link")
    assert [one.path.name for one in job.unsent] == ["none.csv"]


def test_what_cannot_be_sent_is_in_no_job_and_leaves_none_that_is_truncated(
    client: Client, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bodies, "MAX_WHOLE_BYTES", 2**20)
    folder, changed = tmp_path / "trip", ["b.jpg", "huge.jpg", "all.zip"]
    name = f"changed-{token_hex(4)}"
    shutil.copytree(photos, folder)
    for file in changed[1:]:
        (folder / file).write_bytes(bytes(8 * 2**20))

    def spoil(count: int) -> None:
        for file in changed if count else ():
            if (folder / file).stat().st_size > 3 * 2**20 or file == "b.jpg":
                os.truncate(folder / file, 100)

    job = client.ingest([folder, folder / "all.zip"], collection=name, on_sent=spoil)
    assert sorted(one.path.name for one in job.unsent) == sorted(changed)
    done = job.wait(timeout=90)
    assert (done.status, done.total, len(job.ids)) == ("succeeded", PHOTOS - 1, 1)
    assert [one.job_id for one in client.jobs(collection=name).jobs] == [job.id]
    assert job.left_out == "1 all.zip"


def test_a_connection_that_is_cut_in_the_middle_of_a_stream_loses_nothing(stack: Stack) -> None:
    address, name = urlsplit(stack.url), f"cut-{token_hex(4)}"

    def jobs() -> list[Job]:
        with Client(stack.url) as past:
            return past.jobs(collection=name).jobs

    def connect() -> socket.socket:
        return socket.create_connection((address.hostname or "", address.port or 0))

    with Proxy(connect) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as through:
        cuts: list[int] = []

        def items() -> Iterator[str]:
            for number in range(6000):
                if number == 4500:
                    eventually(jobs)  # the server makes one of what it has
                    cuts.append(proxy.cut())
                yield f"ftp://{number}/{'x' * 200}"

        job = through.ingest(items(), collection=name)
        done = job.wait(timeout=90)
        assert cuts == [1]
        assert (done.total, done.counts[ItemState.FAILED], done.truncated) == (6000, 6000, False)
        others = [one for one in jobs() if one.job_id != job.id]
        assert [one.truncated for one in others] == [True]


def test_the_example_writes_each_product_s_five_nearest(
    stack: Stack, pictures: ImageServer, tmp_path: Path
) -> None:
    numbers = {f"sku-{number}": number for number in range(60, 70)} | {"sku-twin": 60}
    with (tmp_path / "products.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "url", "title", "price"])
        for sku, number in numbers.items():
            writer.writerow([sku, pictures.url(f"/photo/{number}.jpg"), f"Number {number}", "9.50"])
        writer.writerow(["sku-gone", pictures.url("/status/404"), "Gone", "1"])
    told = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "products.py"), str(tmp_path / "products.csv")],
        env=stack.env | {"IMAGE_SEARCH_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "row 12: " in told.stdout
    assert "11 products" in told.stdout
    with (tmp_path / "nearest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * len(numbers)
    with httpx.Client(base_url=stack.url) as http:
        for sku, number in numbers.items():
            own = [row for row in rows if row["sku"] == sku]
            assert [row["rank"] for row in own] == ["1", "2", "3", "4", "5"]
            assert {row["title"] for row in own} == {f"Number {number}"}
            assert [(row["nearest"], row["score"]) for row in own] == expected(http, sku)


def test_the_example_says_that_no_picture_could_be_brought_in(
    stack: Stack, pictures: ImageServer, tmp_path: Path
) -> None:
    table = tmp_path / "none.csv"
    table.write_text(f"sku,url\na,{pictures.url('/status/404')}\n", encoding="utf-8")
    told = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "products.py"), str(table)],
        env=stack.env | {"IMAGE_SEARCH_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert told.returncode == 1
    assert "row 1: " in told.stdout
    assert "No picture of" in told.stderr
    assert "Traceback" not in told.stderr


def expected(http: httpx.Client, sku: str) -> list[tuple[str, str]]:
    """By /similar alone; a product with the same picture comes first."""
    collection = {"collection": "products"}
    (image,) = http.get("/v1/images", params={"key": sku, **collection}).json()["images"]
    found = [(key, "1.000000") for key in image["keys"] if key != sku]
    for hit in http.get(f"/v1/images/{image['id']}/similar", params=collection).json()["results"]:
        keys = http.get(f"/v1/images/{hit['id']}", params=collection).json()["keys"]
        found += [(key, f"{hit['score']:.6f}") for key in keys]
    return found[:5]


@pytest.mark.parametrize(
    ("typed", "wanted"), [("coll", "collections"), ("search -c tab", "table"), ("status ", "{job}")]
)
def test_bash_completes_commands_collections_and_jobs(
    stack: Stack, client: Client, photos: Path, typed: str, wanted: str
) -> None:
    job = client.ingest(photos / "a.jpg", collection="table")
    job.wait(timeout=90)
    words = ["image-search", *typed.split(" ")]
    script = f"""
        eval "$(image-search completion bash)"
        COMP_WORDS=({" ".join(repr(word) for word in words)}) COMP_CWORD={len(words) - 1}
        _image_search_completion image-search
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    told = subprocess.run(
        ["bash", "-c", script],
        env=stack.env | {"IMAGE_SEARCH_URL": stack.url, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert wanted.format(job=job.id) in told.stdout.split()


# What a terminal answers to being asked what it is (DA1) and whether it knows Kitty's graphics.
TERMINALS = {
    "sixel": ({b"\x1b[c": b"\x1b[?62;4c"}, rb"\x1bP[0-9;]*q"),
    "kitty": ({b"\x1b[c": b"\x1b[?62c", b"a=q": b"\x1b_Gi=1;OK\x1b\\"}, rb"\x1b_Gi=\d+,m=[01],f=100"),
    "neither": ({}, "\x1b\\[38;2;[0-9;]+m▀".encode()),
}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_a_terminal_is_shown_the_pictures_by_what_it_can(
    stack: Stack, client: Client, photos: Path, terminal: str
) -> None:
    client.ingest(photos, collection="shown").wait(timeout=90)
    answers, drawn = TERMINALS[terminal]
    output = in_terminal(stack, answers, "search", "anything", "-c", "shown", "--limit", "2")
    assert re.search(drawn, output), output[:3000]
    assert re.search(rb"photos/[a-f]\.jpg", output)
    for other, (_, theirs) in TERMINALS.items():
        assert other == terminal or not re.search(theirs, output)
    assert b"Traceback" not in output
    plain = in_terminal(stack, answers, "search", "anything", "-c", "shown", "--no-show")
    assert not any(re.search(theirs, plain) for _, theirs in TERMINALS.values())
    assert re.search(rb"photos/[a-f]\.jpg", plain)


def test_a_terminal_is_shown_what_is_sent_and_how_far_the_job_is(stack: Stack, photos: Path) -> None:
    colored = in_terminal(stack, {}, "ingest", str(photos), "-c", "followed", "--wait")
    output = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", colored)
    size = sum(path.stat().st_size for path in photos.iterdir())
    assert re.search(rb"Sending.*/%s kB" % f"{size / 1000:.1f}".encode(), output), output
    assert re.search(rb"Job [0-9a-f]{8}.*100% .*6/6", output)
    assert re.search(rb"succeeded.*100% of 6\. 6 indexed", output)


def in_terminal(stack: Stack, answers: dict[bytes, bytes], *arguments: str) -> bytes:
    """What `image-search ARGUMENTS` writes to a terminal that gives these answers."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = stack.env | {"IMAGE_SEARCH_URL": stack.url, "TERM": "xterm-256color"}
    environment |= {"COLORTERM": "truecolor"}
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    output, waiting, deadline = b"", dict(answers), time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            output += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        for question in [one for one in waiting if one in output]:
            os.write(ours, waiting.pop(question))
    os.close(ours)
    assert process.wait(60) == 0, output
    return output
