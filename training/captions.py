"""What a picture is called while training: one caption drawn at random, its tags and its bag of words."""

import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from training.sources import BY_NAME, Raw
from training.words import WordNet, withheld

TEMPLATES = (
    "a {}", "the {}", "{} emoji", "{} icon", "clip art of {}", "{} clip art", "a picture of a {}",
    "a drawing of a {}", "an image of {}", "a photo of a {}", "a little {}", "a cartoon {}", "a funny {}",
    "a nice {}", "a big {}", "simple {}",
)  # fmt: skip
COLOURS = {  # sRGB in [0, 1]: for backgrounds, and for the nearest name of a drawing's main colour
    "red": (0.86, 0.16, 0.16), "orange": (0.96, 0.55, 0.12), "yellow": (0.98, 0.82, 0.2),
    "green": (0.25, 0.62, 0.25), "blue": (0.16, 0.42, 0.84), "purple": (0.5, 0.25, 0.66),
    "pink": (0.95, 0.55, 0.7), "brown": (0.48, 0.32, 0.2), "black": (0.07, 0.07, 0.07),
    "gray": (0.55, 0.55, 0.55), "white": (0.97, 0.97, 0.97),
}  # fmt: skip
COLOUR_NAMES = tuple(COLOURS)
COLOUR_VALUES = torch.tensor(list(COLOURS.values()))
STOP_WORDS = set("a an the of and with in on for to by or at from no s".split())
MIN_COUNT = 5  # pictures that share a word before the bag of words has a place for it
NEVER_FLIPPED = re.compile("left|right|arrow|flag|clock|letter|button|text|number|digit|east|west|thirty")


def main_colours(pictures: np.ndarray) -> list[str | None]:
    """The colour name that most of a drawing's opaque pixels are nearest to, if it is more than half."""
    names = []
    for picture in pictures:
        opaque = picture[3] > 200
        pixels = torch.from_numpy(picture[:3, opaque].T / 255).float()
        if len(pixels) < 200:
            names.append(None)
            continue
        nearest = torch.cdist(pixels, COLOUR_VALUES).argmin(1).bincount(minlength=len(COLOURS))
        best = int(nearest.argmax())
        names.append(COLOUR_NAMES[best] if nearest[best] > 0.5 * len(pixels) else None)
    return names


class Captions:
    """The training set's words. Pictures and concepts are numbered; `labels` is -1 for a lone drawing."""

    def __init__(self, folder: Path, colours: list[str | None]) -> None:
        self.items = json.loads((folder / "items.json").read_text())
        self.colours = colours
        wordnet = WordNet(Raw(folder / "raw"))
        for item in self.items:
            item["keywords"] = [k for k in item["keywords"] if not withheld(k)]
            item["related"] = wordnet.related(item["names"][0])
        self.tags = [frozenset(i["names"] + i["keywords"] + i["categories"]) for i in self.items]
        counts = Counter(item["concept"] for item in self.items)
        concepts = sorted(concept for concept, count in counts.items() if count > 1)
        self.concepts = {concept: number for number, concept in enumerate(concepts)}
        self.labels = torch.tensor([self.concepts.get(item["concept"], -1) for item in self.items])
        weights = np.array([
            BY_NAME[i["source"]].weight * (0.4 if i["path"].startswith("computer/icons") else 1)
            for i in self.items
        ])  # fmt: skip
        self.weights = weights / weights.sum()
        self.mono = torch.tensor([BY_NAME[item["source"]].mono for item in self.items])
        self.flippable = torch.tensor([not NEVER_FLIPPED.search(" ".join(i["names"])) for i in self.items])
        self._fill_bags()

    def _fill_bags(self) -> None:
        bags = []
        for item in self.items:
            bag = dict.fromkeys(" ".join(item["names"][:3]).split(), 2.0)
            for word in " ".join(item["keywords"] + item["categories"]).split():
                bag.setdefault(word, 1.0)
            for word in " ".join(item["related"][2:]).replace("-", " ").split():
                bag.setdefault(word, 0.5)
            bags.append(bag)
        document_counts = Counter(word for bag in bags for word in bag)
        kept = [word for word, count in document_counts.items() if count >= MIN_COUNT]
        self.vocabulary = {word: n for n, word in enumerate(w for w in kept if w not in STOP_WORDS)}
        self._bags = []
        for bag in bags:
            pairs = [
                (self.vocabulary[word], weight * math.log(len(bags) / document_counts[word]))
                for word, weight in bag.items()
                if word in self.vocabulary
            ]
            total = sum(weight for _, weight in pairs) or 1
            self._bags.append((torch.tensor([n for n, _ in pairs], dtype=torch.long),
                               torch.tensor([weight / total for _, weight in pairs])))  # fmt: skip

    def bags(self, indices: list[int]) -> torch.Tensor:
        """Target distributions over the vocabulary, float (B, words); rows sum to 1 or are empty."""
        target = torch.zeros(len(indices), len(self.vocabulary))
        for row, index in enumerate(indices):
            words, weights = self._bags[index]
            target[row, words] = weights
        return target

    def name(self, index: int) -> str:
        names = self.items[index]["names"]
        return names[0] if random.random() < 0.6 else random.choice(names)

    def draw(self, index: int) -> tuple[str, bool]:
        """A caption, and whether it names the concept (so that it fits every drawing of it)."""
        item, chance, name = self.items[index], random.random(), self.name(index)
        keywords, categories = item["keywords"], item["categories"]
        if chance < 0.40:
            return name, True
        if chance < 0.64 and keywords:
            many = random.random() < 0.25 and len(keywords) > 1
            return " ".join(random.sample(keywords, 2)) if many else random.choice(keywords), False
        if chance < 0.79 and keywords:
            return " ".join(random.sample([name, random.choice(keywords)], 2)), True
        if chance < 0.83 and categories:
            return (categories[0] if random.random() < 0.6 else f"{categories[0]} {name}"), False
        if chance < 0.92 and item["related"]:
            return random.choice(item["related"]), False
        if chance < 0.97 and self.colours[index]:
            return f"{self.colours[index]} {name}", False
        return name, True
