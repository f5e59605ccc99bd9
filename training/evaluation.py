"""How well a model finds drawings never trained on, by the product's own decoding, encoder and index.

Recall@k is the share of queries with a right picture among the first k; MRR@10 is the mean of 1/rank of the
first right one, 0 past the tenth. Identical files are one candidate, as in the product.
"""

import hashlib
import io
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from api.encoding.calibration import SAMPLE, picture_scale
from api.search.requests import MIXED_NEGATIVE
from benchmarks import parity
from benchmarks.photos import write_photos
from benchmarks.results import Result
from shared.embedding.encoder import Encoder
from shared.errors import ItemError
from shared.imaging.decode import open_query_image
from shared.index.collection import Collection
from shared.index.index import Index
from shared.models import Image
from tests.chroma_server import ChromaServer
from training.pictures import Item, collect, cropped, render
from training.sources import PICTURES, Raw
from training.words import withheld

Vectors = NDArray[np.float32]

TOP = 10
LESS_LIKE_QUERIES = 200
BATCH = 256
MAX_PIXELS = 100_000_000
RENDERED_SIDE = 288
KEYWORDS = 1500
RECALL_VECTORS, RECALL_QUERIES = 50_000, 500
LABELS = {"openmoji": "OpenMoji", "openclipart": "unseen clip art", "stamps": "photographs"}
PLAIN_QUERIES = ("red car", "cute cat", "pizza", "a house in the snow", "sad face", "musical instrument",
                 "dog", "tree", "airplane", "birthday")  # fmt: skip


@dataclass
class Candidates:
    """Distinct pictures with their vectors; `rows` are places in both; several concepts may share one."""

    name: str
    items: list[Item]
    ids: list[str]
    vectors: Vectors
    files: list[bytes]

    def ids_by(self, key: Callable[[Item], Iterable[str]]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for item, image_id in zip(self.items, self.ids, strict=True):
            for value in key(item):
                found[value].add(image_id)
        return found


def file_of(item: Item, folder: Path) -> bytes:
    """The picture's file; a drawing in SVG as a PNG of its whole canvas, kept in `folder`."""
    if not item.drawing.endswith(".svg"):
        return Path(item.drawing).read_bytes()
    path = folder / item.source / f"{Path(item.drawing).stem}.png"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        render(item.drawing, RENDERED_SIDE).save(path)
    return path.read_bytes()


def held_out(raw: Raw) -> dict[str, list[Item]]:
    """Pictures for evaluation, by source; a clip art whose file is also trained on is left out."""
    items = list(collect(raw, tuple(s for s in PICTURES if not s.weight or s.kind == "clipart")))
    seen = {Path(item.drawing).read_bytes() for item in items if not item.held_out}
    found = defaultdict(list)
    for item in items:
        if item.held_out and (item.source != "openclipart" or Path(item.drawing).read_bytes() not in seen):
            found[item.source].append(item)
    return found


def candidates(name: str, items: Sequence[Item], encoder: Encoder, folder: Path) -> Candidates:
    kept, files, crops = [], [], []
    for item in track(items, f"reading {name}"):
        data = file_of(item, folder)
        try:
            crops.append(open_query_image(data, encoder.preprocess, MAX_PIXELS))
        except ItemError:  # a clip art of 200 megapixels, say
            continue
        kept.append(item)
        files.append(data)
    vectors = np.concatenate(
        [encoder.encode_images(np.stack(crops[i : i + BATCH])) for i in range(0, len(crops), BATCH)]
    )
    return Candidates(name, kept, [hashlib.sha256(data).hexdigest() for data in files], vectors, files)


def stored(collection: Collection, ids: Sequence[str], vectors: Vectors) -> Collection:
    """The collection with the vectors in it; of equal ids the last counts."""
    rows = {image_id: row for row, image_id in enumerate(ids)}
    images = [Image(one, one, [one], "png", 1, 1, 1, time.time()) for one in rows]
    collection.upsert(images, vectors[list(rows.values())], list(rows))
    return collection


def indexed(index: Index, encoder: Encoder, name: str, ids: Sequence[str], vectors: Vectors) -> Collection:
    collection = index.ensure(
        name, model=encoder.name, fingerprint=encoder.fingerprint, dimension=encoder.dimension
    )
    return stored(collection, ids, vectors)


def retrieval(
    label: str,
    collection: Collection,
    queries: Vectors,
    right: Sequence[set[str]],
    goals: dict[int, float] | None = None,
) -> list[Result]:
    ranks = []
    for vector, expected in zip(track(queries, label), right, strict=True):
        found = [hit.image.id for hit in collection.search(vector, limit=TOP)]
        ranks.append(next((rank for rank, one in enumerate(found, 1) if one in expected), np.inf))
    at = np.array(ranks)
    goals = goals or {}
    return [
        *(Result(f"{label}: R@{k}", float((at <= k).mean()), goal=goals.get(k)) for k in (1, 5, 10)),
        Result(f"{label}: MRR@10", float((1 / at).mean())),
    ]


def keyword_queries(candidates: Candidates, *, only_withheld: bool) -> dict[str, set[str]]:
    """Keywords of at most 20 pictures; the withheld ones stand in no caption of the training verbatim."""
    found = candidates.ids_by(lambda item: item.names.keywords if only_withheld else item.names.keywords[:8])
    words = sorted(w for w, ids in found.items() if len(ids) <= 20 and (withheld(w) or not only_withheld))
    return {word: found[word] for word in random.Random(3).sample(words, min(KEYWORDS, len(words)))}


def pixel_baseline(files: Sequence[bytes]) -> Vectors:
    """Unit vectors of 16x16 pixels on white, cropped to the drawing: what no model has to beat."""
    import PIL.Image

    rows = []
    for data in files:
        square = cropped(PIL.Image.open(io.BytesIO(data)).convert("RGBA"))
        rgba = np.zeros((4, 16, 16)) if square is None else square.reshape(4, 16, 4, 16, 4).mean((2, 4)) / 255
        rows.append((rgba[:3] + 1 - rgba[3:] - 0.784).ravel())  # 0.784: the mean of such pictures
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clustered(real: Vectors, count: int) -> Vectors:
    """`count` unit vectors laid like `real`: between two of them, with a little noise."""
    random_state = np.random.default_rng(0)
    first, second = real[random_state.integers(len(real), size=(2, count))]
    share = random_state.uniform(0, 0.5, (count, 1))
    noise = random_state.normal(size=first.shape) * 0.2 / real.shape[1] ** 0.5
    mixed = first * (1 - share) + second * share + noise
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


def index_recall(index: Index, encoder: Encoder, real: Vectors, queries: Vectors) -> list[Result]:
    vectors = clustered(real, RECALL_VECTORS)
    ids = [f"{row:064x}" for row in range(len(vectors))]
    collection = indexed(index, encoder, "recall", ids, vectors)
    hits = 0
    for query in track(queries, "index recall"):
        scores = vectors @ query
        exact = {ids[row] for row in np.argpartition(-scores, TOP)[:TOP]}
        hits += len(exact & {hit.image.id for hit in collection.search(query, limit=TOP)})
    recall = hits / TOP / len(queries)
    return [Result(f"index recall@10 against exact, {RECALL_VECTORS:,} vectors", recall, goal=0.98)]


def encode_rate(encoder: Encoder) -> Result:
    """Pictures a second from ready crops; the best of five rounds, since others use the machine too."""
    crops = np.random.default_rng(0).integers(0, 256, (512, *encoder.preprocess.crop_shape, 3), np.uint8)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        encoder.encode_images(crops)
        seconds.append(time.perf_counter() - started)
    return Result(f"encode from ready crops ({encoder.device}, {encoder.precision})",
                  len(crops) / min(seconds), "pictures/s", goal=300)  # fmt: skip


def evaluate(model: str, folder: Path, precision: str = "auto") -> list[Result]:
    """Every figure of the model card; prints the first five pictures of the plain queries."""
    encoder = Encoder.load(model, precision=precision, batch_size=64)
    encoder.warm()
    held = held_out(Raw(folder / "raw"))
    sets = {name: candidates(name, items, encoder, folder / "evaluation") for name, items in held.items()}
    with ChromaServer(folder / "evaluation" / f"chroma-{time.time_ns()}") as server:
        index = Index(server.url, timeout_s=60)
        results = text_results(sets, index, encoder) + picture_results(sets, index, encoder)
        for name, label in LABELS.items():
            results += less_like(label, sets[name], index.collection(name), encoder)
        every = np.concatenate([one.vectors for one in sets.values()])
        names = random.Random(0).sample([i.names.names[0] for i in sets["openmoji"].items], RECALL_QUERIES)
        results += index_recall(index, encoder, every, encoder.encode_texts(names))
        plain_queries(sets["openmoji"], sets["openclipart"], encoder, index)
    photos = write_photos(folder / "evaluation" / "photos", 60)
    close = parity.measure(encoder.folder, photos, centred=False, precision=precision)
    return [*results, *close, encode_rate(encoder)]


def text_results(sets: dict[str, Candidates], index: Index, encoder: Encoder) -> list[Result]:
    goals = {"openmoji": {1: 0.42, 5: 0.72}, "openclipart": {10: 0.45}}
    results = []
    for name, label in LABELS.items():
        one = sets[name]
        by_name = one.ids_by(lambda item: item.names.names[:1])
        results += retrieval(
            f"text → {label} ({len(set(one.ids)):,}) by name",
            indexed(index, encoder, name, one.ids, one.vectors),
            encoder.encode_texts([item.names.names[0] for item in one.items]),
            [by_name[item.names.names[0]] for item in one.items],
            goals.get(name),
        )
    drawings, collection = sets["openmoji"], index.collection("openmoji")
    for only_withheld in (False, True):
        queries = keyword_queries(drawings, only_withheld=only_withheld)
        kind = "keyword in no caption" if only_withheld else "keyword"
        results += retrieval(
            f"text → OpenMoji by {kind} ({len(queries):,} queries)",
            collection,
            encoder.encode_texts(list(queries)),
            list(queries.values()),
            None if only_withheld else {5: 0.45},
        )
    return results


def picture_results(sets: dict[str, Candidates], index: Index, encoder: Encoder) -> list[Result]:
    ours, theirs = sets["openmoji"], sets["twemoji"]
    right = theirs.ids_by(lambda item: [item.names.concept])
    rows = [row for row, item in enumerate(ours.items) if item.names.concept in right]
    expected = [right[ours.items[row].names.concept] for row in rows]
    label = f"picture: OpenMoji → Twemoji ({len(set(theirs.ids)):,})"
    collection = indexed(index, encoder, "twemoji", theirs.ids, theirs.vectors)
    results = retrieval(label, collection, ours.vectors[rows], expected, {1: 0.40})
    pixels = [pixel_baseline(one.files) for one in (ours, theirs)]
    baseline = stored(
        index.ensure("pixels", model="16x16", fingerprint="0" * 16, dimension=pixels[0].shape[1]),
        theirs.ids,
        pixels[1],
    )
    return results + retrieval("  the same by 16x16 pixels, cropped", baseline, pixels[0][rows], expected)


def less_like(label: str, drawings: Candidates, collection: Collection, encoder: Encoder) -> list[Result]:
    """Names whose first five have a wrong picture, searched again less like it, weighed as by default."""
    by_name = drawings.ids_by(lambda item: item.names.names[:1])
    names = random.Random(5).sample(sorted(by_name), len(by_name))
    sample = collection.sample(SAMPLE)
    gone, with_nearest, kept = [], [], []
    for name, text in zip(names, encoder.encode_texts(names), strict=True):
        first = _ids(collection, text)
        wrong = [one for one in first[:5] if one not in by_name[name]]
        if not wrong:
            continue
        unwanted = random.Random(name).choice(wrong)
        picture = collection.vector(unwanted)
        scale = picture_scale(text[None], picture[None], sample)
        query = text - MIXED_NEGATIVE * scale * picture
        now = _ids(collection, query / np.linalg.norm(query), 2 * TOP)
        nearest = {unwanted, *_ids(collection, picture, 6)}
        gone.append(unwanted not in now[:TOP])
        with_nearest.append(not nearest & set(now[:TOP]))
        kept.append(len(set(first) & set(now)))
        if len(kept) == LESS_LIKE_QUERIES:
            break
    label = f"less like a wrong hit, {label} ({len(kept)} names)"
    return [
        Result(f"{label}: it leaves the first ten", float(np.mean(gone))),
        Result(f"{label}: its five nearest do, too", float(np.mean(with_nearest))),
        Result(f"{label}: six of the ten stay in the first twenty", float((np.array(kept) >= 6).mean())),
        Result(f"{label}: of the ten stay", float(np.mean(kept))),
    ]


def _ids(collection: Collection, vector: NDArray[np.float32], limit: int = TOP) -> list[str]:
    return [hit.image.id for hit in collection.search(vector.astype(np.float32), limit=limit)]


def plain_queries(drawings: Candidates, clip_art: Candidates, encoder: Encoder, index: Index) -> None:
    names = {
        image_id: f"{item.names.names[0]} [{one.name}]"
        for one in (drawings, clip_art)
        for item, image_id in zip(one.items, one.ids, strict=True)
    }
    vectors = np.concatenate([drawings.vectors, clip_art.vectors])
    console = Console(width=200, highlight=False)
    collection = indexed(index, encoder, "plain", drawings.ids + clip_art.ids, vectors)
    for query, vector in zip(PLAIN_QUERIES, encoder.encode_texts(PLAIN_QUERIES), strict=True):
        found = [f"{names[h.image.id]} {h.score:.2f}" for h in collection.search(vector, limit=5)]
        console.print(f"  {query}: {', '.join(found)}", markup=False)


def to_markdown(results: Sequence[Result]) -> str:
    lines = ["| measure | value | goal |", "| --- | --- | --- |"]
    for result in results:
        value = f"{result.value:.3f}" if result.value < 10 else f"{result.value:,.0f}"
        goal = "" if result.goal is None else f"{result.goal:g}"
        lines.append(f"| {result.name.strip()} | {value} {result.unit}".rstrip() + f" | {goal} |")
    return "\n".join(lines)
