"""The training loop: resumable, on a CPU in bf16 with fp32 master weights."""

import copy
import math
import os
import random
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from training.augment import Plan, aspects, augment
from training.captions import COLOUR_NAMES, TEMPLATES, Captions, main_colours
from training.model import SIDE, Student, build_clip, start_vision
from training.tokenizer import train_tokenizer

BATCH = 256
LEARNING_RATE, ADAM_RATE, FLOOR = 2e-3, 1e-3, 0.02
WARM_UP_STEPS, DECAY = 100, 0.3
LOW_SIDE, LOW_SHARE = 32, 0.4  # the first part at 32 px, a cheaper step
PATCHES_KEPT = 0.75  # between the low-resolution part and the decay
MAX_TOKENS = 16
SAVE_EVERY_STEPS = 100


class Trainer:
    """All that training needs; `checkpoint.pt` in the folder holds all that changes."""

    def __init__(self, folder: Path, pictures: int, start_from: Path | None = None, seen: int = 0) -> None:
        torch.manual_seed(0)
        random.seed(0)
        self.random = np.random.default_rng(0)
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.folder, self.total = folder, pictures
        self.step = self.first_step = 0  # first_step: where the optimizers started from nothing
        self.pictures = torch.from_numpy(np.load(folder / "pictures.npy"))
        self.aspects = aspects(self.pictures)
        self.captions = Captions(folder, main_colours(self.pictures.numpy()))
        self.tokenizer = self._tokenizer(start_from)
        clip = build_clip(self.tokenizer)
        start_vision(clip, self._plain_images(3000))
        self.master = Student(clip, len(self.captions.concepts), len(self.captions.vocabulary))
        self.fast = copy.deepcopy(self.master).bfloat16()
        self.average = AveragedModel(self.master, multi_avg_fn=get_ema_multi_avg_fn(0.998))
        self.optimizers = self._optimizers()
        self.checkpoint = folder / "checkpoint.pt"
        if self.checkpoint.exists():
            self._load()
        elif start_from:
            self._start_from(start_from, seen)

    def _tokenizer(self, start_from: Path | None) -> CLIPTokenizer:
        saved = self.folder / "tokenizer"
        if start_from and not saved.exists():
            CLIPTokenizer.from_pretrained(start_from).save_pretrained(saved)
        if not saved.exists():
            corpus = [
                text
                for item in self.captions.items
                for text in item["names"] + item["keywords"] + item["categories"] + item["related"]
            ]
            scenes = [
                f"a {a} in the snow next to a photo of the {b} icon"
                for a in COLOUR_NAMES
                for b in corpus[::40]
            ]
            train_tokenizer(corpus + scenes).save_pretrained(saved)
        return CLIPTokenizer.from_pretrained(saved)

    def _plain_images(self, count: int) -> torch.Tensor:
        rgba = self.pictures[torch.randperm(len(self.pictures))[:count]].float() / 255
        rgba = F.interpolate(rgba, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return (rgba[:, :3] + 1 - rgba[:, 3:]) * 2 - 1

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        named = dict(self.master.named_parameters())
        matrices = {n for n, p in named.items() if "encoder.layers" in n and p.ndim == 2}
        decayed = {n for n, p in named.items() if n not in matrices and p.ndim > 1 and "embedding" not in n}
        adam = torch.optim.AdamW(
            [
                {"params": [named[n] for n in sorted(decayed)], "weight_decay": 0.05},
                {"params": [p for n, p in named.items() if n not in matrices | decayed], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            eps=1e-7,
        )
        muon = torch.optim.Muon(
            [named[n] for n in sorted(matrices)], weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        )
        return [muon, adam]

    @property
    def progress(self) -> float:
        return self.step * BATCH / self.total

    def _learning_rates(self) -> tuple[float, float]:
        scale = min(1, (self.step - self.first_step + 1) / WARM_UP_STEPS)
        if self.progress > 1 - DECAY:
            scale *= max(FLOOR, (1 - self.progress) / DECAY)
        return LEARNING_RATE * scale, min(LEARNING_RATE * scale, ADAM_RATE)

    def _batch(self) -> tuple[list[int], Plan, list[str], list[bool], torch.Tensor]:
        """Pictures, plan, texts, whether each text names its concept, and which texts fit which pictures."""
        words = self.captions
        indices = self.random.choice(len(words.items), BATCH, p=words.weights).tolist()
        plan = Plan.draw(BATCH)
        raw, names_it, texts = [], [], []
        tags = [words.tags[index] for index in indices]
        for place, index in enumerate(indices):
            caption, names = words.draw(index)
            partner = int(plan.partner[place])
            if partner >= 0:
                other = indices[partner]
                joint = random.choice(("{} and {}", "{} and {}", "{} next to {}", "{} with {}"))
                tags[place] = words.tags[index] | words.tags[other]
                caption, names = (
                    joint.format(*random.sample([words.name(index), words.name(other)], 2)),
                    False,
                )
            elif plan.colour[place] >= 0:
                colour = COLOUR_NAMES[int(plan.colour[place])]
                caption, names = f"{words.name(index)} on a {colour} background", False
            elif plan.snow[place]:
                scene = random.choice(("{} in the snow", "a {} in the snow", "{} in winter", "snow on a {}"))
                caption, names = scene.format(words.name(index)), False
            raw.append(caption)
            names_it.append(names)
            texts.append(random.choice(TEMPLATES).format(caption) if random.random() < 0.25 else caption)
        fits = torch.tensor([[caption in known for caption in raw] for known in tags])
        labels = self._labels(indices, plan)
        own = torch.where(labels < 0, -1 - torch.arange(BATCH), labels)
        fits |= (own[:, None] == own[None]) & torch.tensor(names_it)[None]
        return indices, plan, texts, names_it, fits | torch.eye(BATCH, dtype=torch.bool)

    def _labels(self, indices: list[int], plan: Plan) -> torch.Tensor:
        return torch.where(plan.partner >= 0, -1, self.captions.labels[indices])

    def _losses(self, side: int, keep: float) -> torch.Tensor:
        indices, plan, texts, names_it, fits = self._batch()
        at = torch.tensor(indices)
        captions, model = self.captions, self.fast
        pixels = augment(
            self.pictures[at], self.aspects[at], captions.mono[at], captions.flippable[at], plan, side
        )
        tokens = self.tokenizer(texts, truncation=True, max_length=MAX_TOKENS).input_ids
        images = model.images(pixels.bfloat16(), keep)
        words = model.texts(tokens, self.tokenizer.pad_token_id)
        scale = model.clip.logit_scale.float().clamp(max=math.log(100)).exp()
        contrast = matching(scale * images @ words.T, fits)
        labels = self._labels(indices, plan)
        known = labels >= 0
        named = known & torch.tensor(names_it)
        concept_scale, word_scale = model.scales.float().exp()
        prototypes = F.normalize(model.prototypes.float(), dim=-1).bfloat16()

        def concepts(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            logits = (features[rows].bfloat16() @ prototypes.T).float() * concept_scale
            return F.cross_entropy(logits, labels[rows], label_smoothing=0.1)

        target = captions.bags(indices)
        single = plan.partner < 0

        def bag(features: torch.Tensor) -> torch.Tensor:
            guessed = model.bag((features * word_scale).bfloat16()).float().log_softmax(1)
            return -(target * guessed).sum(1)[single].mean()

        return torch.stack([contrast, concepts(images, known), 0.5 * concepts(words, named),
                            0.5 * bag(images), 0.25 * bag(words)])  # fmt: skip

    def _update(self) -> None:
        masters, fasts = list(self.master.parameters()), list(self.fast.parameters())
        for master, fast in zip(masters, fasts, strict=True):
            assert fast.grad is not None
            master.grad, fast.grad = fast.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        for optimizer, rate in zip(self.optimizers, self._learning_rates(), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        with torch.no_grad():
            for master, fast in zip(masters, fasts, strict=True):
                fast.copy_(master)
        self.average.update_parameters(self.master)

    def run(self) -> None:
        recent: deque[list[float]] = deque(maxlen=100)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        start, first = time.monotonic(), self.step
        with Progress(*columns) as bar:
            task = bar.add_task("training", total=self.total // BATCH, completed=self.step)
            while self.progress < 1:
                side = LOW_SIDE if self.progress < LOW_SHARE else SIDE
                keep = PATCHES_KEPT if LOW_SHARE <= self.progress < 1 - DECAY else 1.0
                losses = self._losses(side, keep)
                losses.sum().backward()
                self._update()
                self.step += 1
                recent.append(losses.tolist())
                bar.update(task, completed=self.step)
                if self.step % SAVE_EVERY_STEPS == 0:
                    rate = (self.step - first) * BATCH / (time.monotonic() - start)
                    parts = "/".join(f"{value:.2f}" for value in np.mean(recent, 0))
                    bar.print(f"step {self.step}: loss {parts}, {side} px, {rate:.0f} pictures/s")
                    self._save()
        self._save()

    @torch.no_grad()
    def _start_from(self, exported: Path, seen: int) -> None:
        """Go on from exported weights, which carry neither heads nor optimizers.

        Prototypes start as the embeddings of their names, the bag of words at zero, so that neither pulls
        the towers anywhere before it has learnt itself.
        """
        self.step = self.first_step = seen // BATCH
        self.master.clip.load_state_dict(CLIPModel.from_pretrained(exported).float().state_dict())
        names = {item["concept"]: item["names"][0] for item in self.captions.items}
        tokens = self.tokenizer([names[c] for c in self.captions.concepts], truncation=True,
                                max_length=MAX_TOKENS).input_ids  # fmt: skip
        self.master.prototypes.copy_(self.master.texts(tokens, self.tokenizer.pad_token_id))
        torch.nn.init.zeros_(self.master.bag.weight)
        self.fast.load_state_dict(self.master.state_dict())
        self.average.module.load_state_dict(self.master.state_dict())

    def _save(self) -> None:
        state = {
            "step": self.step,
            "first_step": self.first_step,
            "master": self.master.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.step, self.first_step = state["step"], state["first_step"]
        self.master.load_state_dict(state["master"])
        self.fast.load_state_dict(state["master"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for seed in (random.seed, torch.manual_seed):
            seed(self.step)
        self.random = np.random.default_rng(self.step)


def matching(logits: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy both ways with every fitting pair an equally good answer; logits and fits (B, B)."""

    def one_way(rows: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
        target = good / good.sum(1, keepdim=True)
        return -(target * rows.log_softmax(1)).sum(1).mean()

    good = fits.float()
    return (one_way(logits, good) + one_way(logits.T, good.T)) / 2


def export(folder: Path, out: Path) -> None:
    """Write the averaged weights as a standard checkpoint: fp16 model, tokenizer and `CLIPProcessor`."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["average"]
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    clip: CLIPModel = build_clip(tokenizer)
    prefix = "module.clip."
    clip.load_state_dict({n.removeprefix(prefix): p for n, p in state.items() if n.startswith(prefix)})
    clip.half().save_pretrained(out)
    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    CLIPProcessor(images, tokenizer).save_pretrained(out)
