"""From photos to vectors: the product's whole road by URL against other tools that embed pictures in bulk.

Each tool has an environment of its own, made from PyPI; where its pins allow, it shares the packages of this
one, torch among them, and what it pins otherwise is installed beside. All have the same photos and the
weights of the same checkpoint, and each is driven as its own docs say, in benchmarks/peer_drivers.py. The
others get files, need not download, and what a call costs before its first picture is taken off; the product
downloads, writes thumbnails, renditions and its log, and indexes: its time is from the POST to the job's end.
"""

import os
import shutil
import statistics
import subprocess
import sysconfig
import venv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import peer_drivers
from benchmarks.baseline import Baseline
from benchmarks.jobs import ingest_rate
from benchmarks.parity import centred_cosines
from benchmarks.photos import served
from benchmarks.results import Result
from image_search import Client
from tests.stack import Stack

ONNX = ("onnx==1.23.2", "onnxscript==0.7.2")
PEERS = {
    "sentence_transformers": ("sentence-transformers==6.2.0",),
    "fastembed": ("fastembed==0.9.1", *ONNX),
    "rclip": ("rclip==3.3.0", *ONNX),
    "embed_anything": ("embed-anything==0.7.1",),
    "infinity_emb": ("infinity-emb[torch,vision]==0.0.78",),
    "clip_retrieval": ("clip-retrieval==2.45.0", "setuptools<81"),  # its clip needs pkg_resources
}
FEW = 16  # photos of the call that shows a call's fixed cost
TIMEOUT_SECONDS = 600


def measure(
    checkpoint: Path, photos: list[Path], work: Path, precisions: Sequence[str], rounds: int
) -> list[Result]:
    """Medians of `rounds` that alternate between all; a ratio is of one round."""
    pythons = {peer: _environment(work / peer, requirements) for peer, requirements in PEERS.items()}
    few, everything = _folder(work / "few", photos[:FEW]), _folder(work / "all", photos)
    baseline = Baseline(checkpoint)
    reference = np.stack([baseline.embed(Image.open(photo)) for photo in sorted(few.iterdir())])
    rates: dict[str, list[float]] = defaultdict(list)
    cosines = {}
    for number in range(rounds):
        for precision in precisions:
            rate = _product_rate(checkpoint, precision, everything, work / f"{precision}{number}")
            rates[precision].append(rate)
        for peer, python in pythons.items():
            rate, vectors = _embed(peer, python, checkpoint, few, everything)
            rates[peer].append(rate)
            cosines[peer] = float(centred_cosines(vectors, reference).mean())
    best = [max(rates[peer][number] for peer in PEERS) for number in range(rounds)]
    return [
        *(_times_best(precision, rates[precision], best) for precision in precisions),
        *(_of(f"  this product, {precision}", rates[precision]) for precision in precisions),
        *(_of(f"  {peer.replace('_', '-')}", rates[peer]) for peer in PEERS),
        *(
            Result(f"  {peer.replace('_', '-')}, mean centred cosine to the reference", cosine)
            for peer, cosine in cosines.items()
        ),
    ]


def _times_best(precision: str, rates: list[float], best: list[float]) -> Result:
    ratios = [ours / theirs for ours, theirs in zip(rates, best, strict=True)]
    return replace(_of(f"ingest by URL ({precision}), times the best other tool", ratios, ""), goal=1.5)


def _of(name: str, values: list[float], unit: str = "pictures/s") -> Result:
    return Result(name, statistics.median(values), unit, spread=(min(values), max(values)))


def _product_rate(checkpoint: Path, precision: str, photos: Path, folder: Path) -> float:
    with (
        served(photos) as address,
        Stack(folder, MODEL=str(checkpoint), PRECISION=precision) as stack,
        Client(stack.url) as client,
    ):
        urls = [f"{address}/{photo.name}" for photo in sorted(photos.iterdir())]
        ingest_rate(client, urls[:FEW], "warm")
        return ingest_rate(client, urls)


def _environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The Python of a new environment in `folder` with a peer, on top of the packages of this one."""
    python = folder / "venv" / "bin" / "python"
    venv.create(folder / "venv", with_pip=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    (own / "shared.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return python


def _folder(folder: Path, photos: list[Path]) -> Path:
    folder.mkdir(parents=True)
    for photo in photos:
        shutil.copy(photo, folder)
    return folder


def _embed(
    peer: str, python: Path, checkpoint: Path, few: Path, everything: Path
) -> tuple[float, NDArray[np.float32]]:
    """Pictures per second, and the unit vectors of `few`."""
    work = few.parent / f"{peer}-run"
    work.mkdir()
    command = [python, peer_drivers.__file__, peer, checkpoint, work, few, everything]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | offline,
        cwd=work,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{peer}: {done.stderr[-2000:]}")
    vectors = np.load(work / "few.npy").astype(np.float32)
    shutil.rmtree(work)
    return float(done.stdout.split()[-1]), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
