"""The two towers of a dual encoder on one device: from pixels and texts to features, not yet normalised.

The only module that touches torch and transformers; it imports them late, for they take seconds.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.embedding import openvino_int8
from shared.embedding.checkpoint_files import amount, dimension, fingerprint, preprocessing
from shared.embedding.kinds import KINDS, Kind
from shared.errors import ConfigError

if TYPE_CHECKING:
    import torch

    Features = Callable[[slice], torch.Tensor]
    Rows = Callable[[], NDArray[np.float32]]

# torch has one class for a GPU's memory; its CPU and MPS allocators, cuBLAS and cuDNN (…_STATUS_ALLOC_FAILED)
# and OpenVINO raise plain RuntimeErrors.
_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|not enough memory|can(no|')t allocate memory|failed to allocate|bad_alloc"
    r"|_ALLOC_FAILED",
    re.IGNORECASE,
)

TEXTS_AT_ONCE = 16  # a text among so many costs what its multiplications cost: more gain little
# Padding costs a lone text time, and texts of as many tokens are computed together. Products of fewer rows
# are summed in another order.
_LEAST_TOKENS, _TOKENS_STEP = 8, 4
_reading = threading.Lock()
_MOST_LAYERS = 1_000  # published towers have 48 at most; a million would take hours to make, of no sizes even

# BERT's pooling layer, which towers that take the first token's state have no use for, and some still store.
_UNUSED = re.compile(r"text_model\.(roberta\.)?pooler\.")


class Towers:
    """A model of one of the KINDS, taken over in fp32 on the CPU, with its tokenizer.

    On `device`, the two towers run in `precision`, their projections, where there are any, in fp64, which MPS
    lacks. With int8, only `image_features` is in int8, by OpenVINO; texts and patches are in what `auto`
    means for the device. Features are not normalised.
    """

    def __init__(
        self, model: Any, tokenizer: Any, folder: Path, *, device: str, precision: str, at_once: int
    ) -> None:
        """Take the model read from `folder` over; up to `at_once` calls may compute at a time."""
        import torch  # noqa: PLC0415

        self.kind = KINDS[model.config.model_type]
        self.fingerprint = fingerprint(folder)
        self.preprocess = preprocessing(folder)
        side = model.config.vision_config.image_size
        if self.preprocess.crop_shape != (side, side):
            height, width = self.preprocess.crop_shape
            raise ValueError(
                f"it takes pictures of {side} x {side} pixels (image_size in config.json), but its "
                f"preprocessor_config.json or processor_config.json makes them {height} x {width}"
            )
        self.dimension = dimension(folder)
        self.patches = (side // model.config.vision_config.patch_size,) * 2
        self.logit_scale = float(model.logit_scale.detach().exp())
        self.logit_bias = float(model.logit_bias.detach()) if self.kind.score == "sigmoid" else None
        if not (math.isfinite(self.logit_scale) and math.isfinite(self.logit_bias or 0)):
            raise ValueError("its logit_scale or logit_bias makes no finite scores")
        self.device = device
        self._cuda = device.startswith("cuda")
        self.max_tokens = self.kind.max_tokens(model.config.text_config, tokenizer)
        if not self.kind.padded:  # before a text, padding would move it to other positions in each batch
            tokenizer.padding_side = "right"
        _check_tokenizer(self.kind, model.config.text_config, tokenizer)
        in_torch = choose_precision("auto", device) if precision == "int8" else precision
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[in_torch]
        mean, std = (
            torch.tensor(each, device=device)[:, None, None]
            for each in (self.preprocess.mean, self.preprocess.std)
        )
        self._scale, self._shift = self.preprocess.rescale / std, mean / std
        self.model = model.eval().to(device)
        self.int8 = self._make_int8(at_once) if precision == "int8" else None
        self.model.vision_model.to(self._dtype)
        self.model.text_model.to(self._dtype)
        if device == "cpu":
            # Still the file's own pages, where it is in this precision: it may be overwritten.
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data = tensor.data.clone()
        # What takes one row per text: in a low precision it would round by how many there are.
        self._exact = torch.float32 if device == "mps" else torch.float64
        heads = ("visual_projection", "text_projection", "text_model.head")
        for head in [module for name, module in self.model.named_modules() if name in heads]:
            head.to(self._exact).register_forward_pre_hook(_in_own_precision)
        self._lowers = self.kind.lowered and tokenizer.init_kwargs.get("do_lower_case") is not False
        self._tokenizer = tokenizer
        self._tokenizer_lock = threading.Lock()  # its truncation is shared state

    def is_truncated(self, text: str) -> bool:
        """Return whether `text_features` leaves out the end of `text`."""
        with self._tokenizer_lock:
            tokens = self._tokenizer(self._readable(text), truncation=True, max_length=self.max_tokens + 1)
        return bool(len(tokens["input_ids"]) > self.max_tokens)

    def start(self, features: Features, rows: slice) -> Rows | None:
        """Start to compute unit vectors of `rows`; return what waits for them, None without memory."""
        import torch  # noqa: PLC0415

        try:
            with torch.inference_mode():
                unit = torch.nn.functional.normalize(features(rows).to(self._exact), dim=-1)
                vectors = unit.float().to("cpu", non_blocking=self._cuda)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return None
            raise
        copied = torch.cuda.current_stream(self.device).record_event() if self._cuda else None

        def read() -> NDArray[np.float32]:
            if copied is not None:
                copied.synchronize()
            return np.asarray(vectors)

        return read

    def free_cache(self) -> None:
        """Free the memory of tensors that are gone."""
        import torch  # noqa: PLC0415

        if self._cuda:
            torch.cuda.empty_cache()

    def image_features(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        import torch  # noqa: PLC0415

        if self.int8 is not None:
            return torch.from_numpy(self.int8(crops))
        return self._torch_image_features(crops)

    def _torch_image_features(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        features: torch.Tensor = self.model.get_image_features(self._pixels(crops)).pooler_output
        return features

    def patch_features(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        features: torch.Tensor = self.kind.patches(self.model, self._pixels(crops))
        return features.float().reshape(len(crops), *self.patches, self.dimension)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, up to `max_tokens`."""
        if not texts:
            return []
        with self._tokenizer_lock:
            found: list[list[int]] = self._tokenizer(
                [self._readable(text) for text in texts], truncation=True, max_length=self.max_tokens
            )["input_ids"]
        return found

    def padded_length(self, tokens: Sequence[int]) -> int:
        """Return the length to which a text is padded: its own alone decides, so its rounding is its own."""
        if self.kind.padded:
            return self.max_tokens
        return min(max(_LEAST_TOKENS, -(-len(tokens) // _TOKENS_STEP) * _TOKENS_STEP), self.max_tokens)

    def text_features(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Compute up to TEXTS_AT_ONCE texts, given as tokens, of one `padded_length`."""
        rows = list(texts)
        if self.device != "cpu":  # whose libraries choose another way to sum for each number of rows
            rows += rows[-1:] * (TEXTS_AT_ONCE - len(rows))
        with self._tokenizer_lock:
            padded = self._tokenizer.pad(
                {"input_ids": rows},
                padding="max_length",
                max_length=self.padded_length(rows[0]),
                return_attention_mask=not self.kind.padded,
                return_tensors="pt",
            )
        features: torch.Tensor = self.model.get_text_features(**padded.to(self.device)).pooler_output
        return features[: len(texts)]

    def _readable(self, text: str) -> str:
        """Case a text as the model's were; replace lone surrogates, which have no UTF-8 and so no tokens."""
        whole = text.encode("utf-8", "replace").decode("utf-8")
        return whole.lower() if self._lowers else whole

    def _pixels(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        import torch  # noqa: PLC0415

        # From pinned memory the GPU copies by itself; from any other the host copies once more, and waits.
        staged = torch.empty(crops.shape, dtype=torch.uint8, pin_memory=self._cuda)
        np.copyto(staged.numpy(), crops)
        # Channels first while they are bytes: it takes a third of the time.
        pixels = staged.to(self.device, non_blocking=self._cuda).permute(0, 3, 1, 2).contiguous()
        return pixels.float().mul_(self._scale).sub_(self._shift).to(self._dtype)

    def _make_int8(self, at_once: int) -> openvino_int8.Features:
        """Make the int8 image tower; call it while the model is still in fp32."""
        import torch  # noqa: PLC0415

        model = self.model

        class ImageFeatures(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                features: torch.Tensor = self.model.get_image_features(pixels).pooler_output
                return features

        return openvino_int8.int8_features(
            ImageFeatures,
            lambda crops: np.asarray(torch.inference_mode()(self._torch_image_features)(crops)),
            self.preprocess,
            self.fingerprint,
            bf16=self._dtype is torch.bfloat16,
            threads=max(at_once, torch.get_num_threads()),
        )


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def read_checkpoint(folder: Path, most_bytes: int | None = None) -> tuple[Any, Any]:
    """Read the model (fp32, CPU) and tokenizer; pickled weights may hold plain tensors only.

    One at a time: transformers cannot be imported by two threads at once, and loading changes what is global
    in torch. Raises ValueError for a model of more than `most_bytes`, and for parts that do not fit together.
    """
    with _reading:
        return _read(folder, most_bytes)


def _read(folder: Path, most_bytes: int | None) -> tuple[Any, Any]:
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    local = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **local)
    layers = max(config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers)
    if layers > _MOST_LAYERS:
        raise ValueError(f"its config.json asks for {layers:,} layers")
    with torch.device("meta"):  # its sizes alone: what is not in the weights would be made
        sizes = AutoModel.from_config(config, dtype=torch.float32)
    needed = sum(one.nbytes for one in sizes.parameters())
    if most_bytes is not None and needed > most_bytes:
        raise ValueError(f"its config.json asks for {amount(needed)} of memory")
    model, report = AutoModel.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="sdpa",
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported, and refused here
        **local,
    )
    _check_weights(report)
    return model, AutoTokenizer.from_pretrained(folder, **local)


def _check_weights(report: dict[str, Any]) -> None:
    """Refuse weights that are not those of config.json, by the report of transformers on loading them."""
    for key, said in (
        ("mismatched_keys", "its weights are not of the shapes that its config.json says: {}"),
        ("missing_keys", "its weights lack {}"),
        ("unexpected_keys", "its weights hold what its config.json says nothing of: {}"),
    ):
        named = (name if isinstance(name, str) else name[0] for name in report[key])
        if names := sorted(name for name in named if not _UNUSED.match(name)):
            more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
            raise ValueError(said.format(names[0] + more))


def _check_tokenizer(kind: Kind, text_config: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that is not the text tower's, which would fail at some text or find anything."""
    if len(tokenizer) > text_config.vocab_size:
        raise ValueError(
            f"its tokenizer has {len(tokenizer):,} tokens, and its text tower only "
            f"{text_config.vocab_size:,}: it is another model's tokenizer"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError("its tokenizer names no padding token (pad_token in tokenizer_config.json)")
    tokens = tokenizer(["a", "a red car on a street"], padding=True)["input_ids"]
    if not all(kind.pools(text_config, tokenizer, each) for each in tokens):
        raise ValueError(
            "its tokenizer does not give the token from which the text tower takes a text's vector: it is "
            "another model's tokenizer"
        )


@cache
def one_core_per_call() -> int:
    """Make torch use one core per call; return how many calls then fill the cores.

    A text is hundreds of steps of microseconds: sharing each among threads costs more than it saves, and on
    cores that others use too, each step waits for the thread that comes last.
    """
    import torch  # noqa: PLC0415

    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    return cores


def choose_device(device: str) -> str:
    import torch  # noqa: PLC0415

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda:0" if cuda else "mps" if mps else "cpu"
    kind, _, number = device.partition(":")
    if kind == "cuda" and int(number or 0) >= cuda:
        raise ConfigError(f"IMAGE_SEARCH_DEVICE is {device}, but torch {torch.__version__} sees {cuda} GPUs")
    if kind == "mps" and not mps:
        raise ConfigError(f"IMAGE_SEARCH_DEVICE is mps, but torch {torch.__version__} sees no such device")
    return f"cuda:{number or 0}" if kind == "cuda" else device


def bytes_held(device: str) -> dict[str, int]:
    """Return the memory of a GPU that this process holds: `allocated` for tensors, `reserved` in all."""
    import torch  # noqa: PLC0415

    if not device.startswith("cuda"):
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
    }


def choose_precision(precision: str, device: str) -> str:
    """Return the precision that the setting means on `device`. Raises ConfigError where it has none such.

    `auto` is bf16 where the chip computes in it, not only stores it; fp16 on older GPUs; else fp32.
    """
    import torch  # noqa: PLC0415

    if precision == "int8" and device != "cpu":
        raise ConfigError(
            f"IMAGE_SEARCH_PRECISION is int8, which only a CPU computes here, but the device is {device}; "
            "set IMAGE_SEARCH_DEVICE to cpu, or IMAGE_SEARCH_PRECISION to auto"
        )
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # torch has no public name for these before 2.9; without them fp32 is right, only slower.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if device == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes) else "fp32"


def device_name(device: str) -> str:
    import torch  # noqa: PLC0415

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    if device == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'' if threads == 1 else 's'}"


def _in_own_precision(head: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].to(head.weight.dtype),)
