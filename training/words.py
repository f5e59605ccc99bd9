"""What a picture is called: emoji names and keywords, WordNet, and the cleaning of free text."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from training.sources import Raw

TOO_GENERAL = set(
    "entity|physical entity|abstraction|object|whole|matter|psychological feature|attribute|artifact|"
    "living thing|causal agent|instrumentality|unit|group|abstract entity|thing|cause|measure|relation|"
    "substance|event|act|state|process|communication|organism|being".split("|")
)
REVERSED = set("food drink animal plant place transport face cat person family hand sky".split())


@dataclass
class Names:
    """What is known of one thing: `concept` is equal for drawings of the same thing in any style."""

    concept: str
    names: list[str]
    keywords: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    group: str = ""


def clean(text: str) -> str:
    """Lower-case ASCII words with single spaces; `&` and apostrophes stay."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"\s+", " ", re.sub(r"[^a-z0-9&' ]+", " ", ascii_text)).strip()


def unique(words: Iterable[str], but: Iterable[str] = ()) -> list[str]:
    skip = set(but)
    return [word for word in dict.fromkeys(words) if word and word not in skip]


def share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: splits made with it never move."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def withheld(keyword: str) -> bool:
    """Whether a keyword of several words is kept out of every caption, to be a query never seen."""
    return " " in keyword and share(keyword) < 0.15


class Emoji:
    """Names of every emoji without skin tones, by character (no variation selectors), slug or code."""

    def __init__(self, raw: Raw) -> None:
        listed: Any = raw.json("emoji-datasource@16.0.0", "emoji.json")
        plain: Any = raw.json("unicode-emoji-json@0.9.0", "data-by-emoji.json")
        lib: Any = raw.json("emojilib@4.0.3", "dist/emoji-en-US.json")
        cldr: Any = raw.json("cldr-annotations-full@48.2.0", "annotations/en/annotations.json")
        plain, lib, cldr = (
            {char.replace("\ufe0f", ""): value for char, value in table.items()}
            for table in (plain, lib, cldr["annotations"]["annotations"])
        )
        self.by_char: dict[str, Names] = {}
        self.by_slug: dict[str, Names] = {}
        self.by_name: dict[str, Names] = {}
        for entry in listed:
            char = self.char(entry["unified"])
            known = cldr.get(char, {})
            shorts = [re.sub("[_-]", " ", short) for short in entry["short_names"]]
            names = unique(map(clean, [plain.get(char, {}).get("name", ""), *known.get("tts", []), *shorts]))
            if entry["category"] == "Flags":
                names = [name for name in names if len(name) > 8] or names
                country = names[0].replace("flag ", "")
                names += [f"flag of {country}", f"{country} flag", country]
            raw_keywords = [*known.get("default", []), *(k.replace("_", " ") for k in lib.get(char, []))]
            keywords = [k for k in unique(map(clean, raw_keywords), but=names) if len(k) < 30]
            parts = (entry["subcategory"] or "").split("-")
            categories = unique(
                [" ".join(reversed(parts) if parts[0] in REVERSED else parts), parts[0]], but=[""]
            )
            item = Names("emoji:" + char, names, keywords, categories, entry["category"])
            self.by_char[char] = item
            for name in [*names, clean(entry["name"] or "")]:
                self.by_name.setdefault(name, item)
                self.by_slug.setdefault(self.slug(name), item)
        self.by_joined = {slug.replace("-", ""): item for slug, item in self.by_slug.items()}

    @staticmethod
    def char(code: str) -> str:
        return "".join(chr(int(part, 16)) for part in code.split("-")).replace("\ufe0f", "")

    @staticmethod
    def slug(name: str) -> str:
        return clean(name).replace("'", "").replace("&", "and").replace(" ", "-")

    def find(self, icon: str) -> Names | None:
        """The emoji that an icon set's file name means, if one does."""
        stem = re.sub(r"-\d+$", "", icon)
        flag = icon.replace("flag-for-flag-", "flag-").replace("flag-for-", "flag-")
        for slug in (icon, flag, stem, "flag-" + stem):
            if slug in self.by_slug:
                return self.by_slug[slug]
        return self.by_joined.get(icon.replace("-", ""))

    def flag(self, country: str) -> Names | None:
        """The flag of a two-letter ISO 3166-1 code."""
        return self.by_char.get("".join(chr(0x1F1E6 + ord(c) - ord("a")) for c in country))


class WordNet:
    """First senses of WordNet's nouns: synonyms and hypernyms."""

    def __init__(self, raw: Raw) -> None:
        folder = raw.debian / "wordnet"
        self.synsets: dict[str, tuple[list[str], list[str]]] = {}
        for line in (folder / "data.noun").read_text().splitlines():
            if line.startswith(" "):
                continue
            fields = line.split(" | ", 1)[0].split(" ")
            count = int(fields[3], 16)
            words = [re.sub(r"\(.*", "", fields[4 + 2 * i]).replace("_", " ").lower() for i in range(count)]
            at = 4 + 2 * count
            pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
            self.synsets[fields[0]] = (words, [p[1] for p in pointers if p[0] in ("@", "@i") and p[2] == "n"])
        self.first = {}
        for line in (folder / "index.noun").read_text().splitlines():
            if not line.startswith(" "):
                fields = line.split()
                self.first[fields[0].replace("_", " ")] = fields[6 + int(fields[3])]
        self.lemmas = {
            line.split(" ", 1)[0]
            for part in ("noun", "verb", "adj", "adv")
            for line in (folder / f"index.{part}").read_text().splitlines()
        }

    def is_word(self, word: str) -> bool:
        return any(form in self.lemmas for form in (word, word.removesuffix("s"), word.removesuffix("es")))

    def look_up(self, name: str) -> str | None:
        """The offset of a name's first sense: the whole name's, else its last word's, singular too."""
        for word in (name, name.rsplit(" ", maxsplit=1)[-1]):
            for form in (word, word.removesuffix("s")):
                if form in self.first:
                    return self.first[form]
        return None

    def related(self, name: str) -> list[str]:
        """Up to two synonyms, then up to three hypernyms from near to far, of a name's first sense."""
        offset = self.look_up(name)
        if offset is None:
            return []
        words = [word for word in self.synsets[offset][0] if word != name][:2]
        for _ in range(3):
            above = self.synsets[offset][1]
            if not above or self.synsets[above[0]][0][0] in TOO_GENERAL:
                break
            offset = above[0]
            words.append(self.synsets[offset][0][0])
        return words
