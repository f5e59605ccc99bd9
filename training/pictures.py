"""Pictures with their names: collected from the packages, rendered, cropped to the drawing, stored."""

import gzip
import io
import json
import multiprocessing
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image
from rich.progress import track

from training.sources import PICTURES, Raw, Source
from training.words import Emoji, Names, WordNet, clean, share, unique

SIDE = 64  # pixels; training goes up to 48
MARGIN = 1.06  # of the drawing's longer side
HELD_OUT = 0.265  # of the share of titles: about 800 pictures

STYLE_SUFFIX = r"-(outline|filled|fill|duotone|bold|light|regular|\d+)"
SKIN_TONE = re.compile(r"skin-tone|-(light|medium-light|medium|medium-dark|dark)$")
CLIP_ART_SKIPPED = re.compile(
    r"^(shapes/(stars|jigsaw|callouts|flowchart)|special|computer/icons/70a|unsorted/duplicates|"
    r"signs_and_symbols/led|signs_and_symbols/flags/semaphore|computer/buttons|buttons)"
)
CLIP_ART_FOLDERS = {"unsorted", "icons", "flat-theme", "etiquette-theme", "lemon-theme", "miscellany",
                    "recreation", "special"}  # fmt: skip
FILLER = set(
    "clipart clip art part of collection icon by the a and svg image picture jpg png unsorted theme flat "
    "etiquette lemon hash unchecked upload2openclipart miscellaneous signs symbols sodipodi inkscape vector "
    "openclipart misc externalsource with".split()
)


@dataclass
class Item:
    """One picture: `drawing` is SVG text or a file's path; `held_out` ones are for evaluation only."""

    source: str
    names: Names
    drawing: str
    held_out: bool = False
    path: str = ""


def emoji_items(source: Source, raw: Raw, emoji: Emoji) -> Iterator[Item]:
    held = source.weight == 0
    if source.name == "twemoji":
        folder = raw.npm(source.package) / "img/twitter/64"
        files = ((path.stem, str(path)) for path in sorted(folder.glob("*.png")))
    elif source.name == "openmoji":
        listed: Any = raw.json(source.package, "data/openmoji.json")
        folder = raw.npm(source.package) / "color/svg"
        files = ((o["hexcode"], str(folder / f"{o['hexcode']}.svg")) for o in listed if not o["skintone"])
    else:
        folder = raw.npm(source.package) / "assets"
        files = ((path.stem, str(path)) for path in sorted(folder.glob("*.webp")))
    for code, drawing in files:
        names = emoji.by_char.get(emoji.char(code)) if re.fullmatch("[0-9A-Fa-f-]+", code) else None
        if names:
            yield Item(source.name, names, drawing, held)


def emoji_icons(source: Source, raw: Raw, emoji: Emoji) -> Iterator[Item]:
    for icon, svg in raw.iconify(source):
        if "skin-tone" in icon or (SKIN_TONE.search(icon) and icon not in emoji.by_slug):
            continue
        names = emoji.find(icon)
        if names is None and source.name != "fxemoji":
            name = re.sub("^flag for ", "flag of ", clean(re.sub(r"-\d+$", "", icon).replace("-", " ")))
            names = Names("name:" + name, [name])
        if names:
            yield Item(source.name, names, svg)


def flag_items(source: Source, raw: Raw, emoji: Emoji) -> Iterator[Item]:
    if source.name == "flag-icons":
        files = sorted((raw.npm(source.package) / "flags/4x3").glob("*.svg"))
        drawings = ((path.stem, str(path)) for path in files)
    else:
        drawings = raw.iconify(source)
    for code, drawing in drawings:
        names = emoji.flag(code) if len(code) == 2 else None
        if names:
            yield Item(source.name, names, drawing)


def icon_items(source: Source, raw: Raw, emoji: Emoji) -> Iterator[Item]:
    largest: dict[str, tuple[int, str]] = {}
    for icon, svg in raw.iconify(source):  # fluent-color has one drawing a size: keep the largest
        size = int(m[1]) if source.name == "fluent-color" and (m := re.search(r"-(\d+)$", icon)) else 0
        stem = re.sub(f"({STYLE_SUFFIX})+$", "", icon)
        largest[stem] = max(largest.get(stem, (-1, "")), (size, svg))
    for icon, (_, svg) in largest.items():
        name = clean(icon.replace("-", " "))
        known = emoji.by_name.get(name)
        if known and known.group != "Flags" and len(name) > 3:
            names = Names(known.concept, [name], known.keywords, known.categories)
        else:
            names = Names("name:" + name, [name])
        yield Item(source.name, names, svg)


def clip_art_metadata(svg: Path) -> tuple[list[str], list[str]]:
    """Titles (the picture's first, then its authors) and keywords from an Openclipart SVG."""
    for path in (svg, svg.with_name(svg.name + "z"), svg.with_name(svg.name + ".gz")):
        if path.exists():
            data = path.read_bytes()
            text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "ignore")
            found = re.search(r"<metadata.*?</metadata>", text, re.S)
            block = found[0] if found else ""
            titles = [clean(title) for title in re.findall(r"<dc:title>(.*?)</dc:title>", block, re.S)]
            return titles, [clean(word) for word in re.findall(r"<rdf:li[^>]*>(.*?)</rdf:li>", block, re.S)]
    return [], []


def clip_art_names(path: str, titles: list[str], keywords: list[str], words: WordNet) -> Names | None:
    """Names from the file's name and title, without authors and filler; None when nothing is left."""
    authors = set(" ".join(titles[1:]).split())
    stem = path.rsplit("/", 1)[-1].removesuffix(".png").replace(".svg", "")
    tokens = [re.sub(r"\d+", "", token) for token in re.split(r"[_\-. ]+", clean(re.sub("[_.-]", " ", stem)))]
    tokens = [
        token
        for token in tokens
        if len(token) > 2 and token not in authors | FILLER and words.is_word(token)
        and (token in words.lemmas or not any(author.startswith(token) for author in authors))
    ]  # fmt: skip
    folders = [part.replace("_", " ") for part in path.split("/")[:-1] if part not in CLIP_ART_FOLDERS]
    names = [" ".join(unique(tokens))] if tokens else []
    title = " ".join(w for w in titles[0].split() if w not in authors | {"clipart", "by"}) if titles else ""
    title = re.sub(r"\d+", "", title).strip()
    sensible = 2 < len(title) < 50 and not re.search("collection|theme|road signs", title)
    if sensible and all(len(word) < 4 or words.is_word(word) for word in title.split()):
        names = unique([*names, title])
    if "flags" in path:
        names = [name if "flag" in name else "flag of " + name for name in names]
    keywords = [word for word in unique(keywords, but=FILLER) if len(word) < 30]
    if not names and keywords and "-theme" not in path:
        names = [" ".join(keywords[:2])]
    if not names:
        return None
    return Names("name:" + names[0], names, [k for k in keywords if k not in names], folders[-2:])


def clip_art_items(source: Source, raw: Raw, words: WordNet) -> Iterator[Item]:
    folder = raw.debian / "openclipart"
    items = []
    for picture in sorted((folder / "png").rglob("*.png")):
        path = str(picture.relative_to(folder / "png"))
        if CLIP_ART_SKIPPED.match(path):
            continue
        metadata = clip_art_metadata(folder / "svg" / (path.removesuffix(".png") + ".svg"))
        if names := clip_art_names(path, *metadata, words):
            items.append(Item(source.name, names, str(picture), path=path))
    group_sizes = Counter(item.names.names[0] for item in items)
    for item in items:
        title = item.names.names[0]  # a whole title group is on one side of the split
        is_picture = not item.path.startswith("computer/icons")
        item.held_out = is_picture and group_sizes[title] <= 6 and share(title) < HELD_OUT
        yield item


def stamp_items(source: Source, raw: Raw) -> Iterator[Item]:
    for text in sorted((raw.debian / "tuxpaint/stamps").rglob("*.txt")):
        line = text.read_text(errors="ignore").partition("\n")[0]
        name = re.sub("^(a|an|the|some) ", "", clean(line))
        picture = text.with_suffix(".png")
        if name and picture.exists() and "symbols" not in text.parts:
            yield Item(source.name, Names("name:" + name, [name]), str(picture), held_out=True)


def collect(raw: Raw, sources: tuple[Source, ...] = PICTURES) -> Iterator[Item]:
    emoji, words = Emoji(raw), WordNet(raw)
    for source in sources:
        if source.kind == "clipart":
            yield from clip_art_items(source, raw, words)
        elif source.kind == "photo":
            yield from stamp_items(source, raw)
        elif source.kind == "flag":
            yield from flag_items(source, raw, emoji)
        elif source.kind == "icon":
            yield from icon_items(source, raw, emoji)
        elif source.package.startswith("@iconify-json/"):
            yield from emoji_icons(source, raw, emoji)
        else:
            yield from emoji_items(source, raw, emoji)


def render(drawing: str, side: int) -> Image.Image:
    """RGBA, the longer side `side` pixels for SVG; a bitmap is reduced to at most three times that."""
    if drawing.endswith(".svg"):
        drawing = Path(drawing).read_text(errors="ignore")
    if drawing.startswith("<"):
        box = re.search(r'viewBox="([-\d.]+) ([-\d.]+) ([-\d.]+) ([-\d.]+)"', drawing)
        longer = "height" if box and float(box[4]) > float(box[3]) else "width"
        return Image.open(
            io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=drawing, **{longer: side})))
        ).convert("RGBA")
    image = Image.open(drawing)
    image.draft("RGB", (side, side))
    if image.mode in ("RGB", "RGBA", "L", "LA"):
        image = image.reduce(max(1, max(image.size) // (3 * side)))
    return image.convert("RGBA")


def cropped(image: Image.Image) -> np.ndarray | None:
    """Premultiplied RGBA (4, SIDE, SIDE) uint8 of the drawing in a square, or None where there is none."""
    rgba = np.asarray(image).astype(np.float32)
    alpha = rgba[..., 3:] / 255
    on_white = rgba[..., :3] * alpha + 255 * (1 - alpha)
    drawn = np.abs(255 - on_white).max(-1) > 12
    if drawn.sum() < 12:
        drawn = rgba[..., 3] > 20
    if drawn.sum() < 12:
        return None
    ys, xs = np.nonzero(drawn)
    height, width = ys.max() + 1 - ys.min(), xs.max() + 1 - xs.min()
    side = int(np.ceil(max(height, width) * MARGIN))
    top, left = (ys.min() + ys.max() + 1 - side) // 2, (xs.min() + xs.max() + 1 - side) // 2
    planes = np.moveaxis(np.concatenate([rgba[..., :3] * alpha, rgba[..., 3:]], -1), -1, 0)
    square = [
        np.asarray(
            Image.fromarray(plane)
            .crop((left, top, left + side, top + side))
            .resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        )
        for plane in planes
    ]
    return np.rint(np.stack(square)).clip(0, 255).astype(np.uint8)


def draw(item: Item) -> np.ndarray | None:
    try:
        return cropped(render(item.drawing, 2 * SIDE))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def build(raw: Raw, out: Path) -> None:
    """Write `pictures.npy`, uint8 (N, 4, SIDE, SIDE), and `items.json` of the training pictures."""
    items = [item for item in collect(raw, tuple(s for s in PICTURES if s.weight)) if not item.held_out]
    with multiprocessing.Pool() as pool:
        drawn = list(track(pool.imap(draw, items, chunksize=64), "rendering", total=len(items)))
    kept = [(item, square) for item, square in zip(items, drawn, strict=True) if square is not None]
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "pictures.npy", np.stack([square for _, square in kept]))
    records = [{"source": item.source, "path": item.path, **asdict(item.names)} for item, _ in kept]
    (out / "items.json").write_text(json.dumps(records))
    counts = Counter(record["source"] for record in records)
    print(f"{len(kept)} pictures of {len(items)}:", dict(counts))
