"""Pictures and texts to CLIP vectors.

The only module on the road that touches torch and transformers; it imports them late, for they take seconds.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from shared.embedding import openvino_int8
from shared.embedding.checkpoints import fingerprint, resolve_auto, resolve_model
from shared.errors import ConfigError, ImageSearchError, ItemError, ModelUnavailable, Unavailable
from shared.imaging.preprocess import Preprocess

if TYPE_CHECKING:
    import torch

    Features = Callable[[slice], torch.Tensor]
    Rows = Callable[[], NDArray[np.float32]]

__all__ = ["Encoder", "fingerprint", "resolve_auto", "resolve_model"]

# torch has one class for a GPU's memory; its CPU and MPS allocators, cuBLAS and cuDNN (…_STATUS_ALLOC_FAILED)
# and OpenVINO raise plain RuntimeErrors.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|failed to allocate|bad_alloc|_ALLOC_FAILED",
    re.IGNORECASE,
)
_NORM_TOLERANCE = 1e-3

log = structlog.get_logger()


class Encoder:
    """One CLIP checkpoint on one device, safe to share between threads.

    `name` is what MODEL said, `device` a torch device ("cuda:0"), `device_name` its maker's name, `precision`
    one of fp32, bf16, fp16, int8, `max_tokens` the longest text in tokens, both end marks included. The two
    towers run in `precision`; their projections and the normalisation in fp32. With int8, only
    `encode_images` is in int8, by OpenVINO; texts and patches are in what `auto` means for the device.
    `logit_scale` is what the checkpoint multiplies cosines by before a softmax: its inverse temperature, 100
    in the published CLIP models.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        folder: Path,
        device: str,
        precision: str,
        batch_size: int,
        at_once: int = 1,
    ) -> None:
        """`model` is a CLIPModel in fp32 on the CPU, which this takes over; see `load`."""
        import torch  # noqa: PLC0415

        self.name = name
        self.folder = folder
        self.fingerprint = fingerprint(folder)
        self.preprocess = Preprocess.from_checkpoint(folder)
        side = model.config.vision_config.image_size
        if self.preprocess.crop_shape != (side, side):
            raise ValueError(
                f"its pictures are prepared as {self.preprocess.crop_shape}, but it takes {side} pixels"
            )
        self.dimension: int = model.config.projection_dim
        self._patches = (side // model.config.vision_config.patch_size,) * 2
        self.logit_scale = float(model.logit_scale.detach().exp())
        self.device = device
        self._cuda = device.startswith("cuda")
        self.device_name = _device_name(device)
        self.precision = precision
        self.batch_size = batch_size
        self.max_tokens = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
        in_torch = _choose_precision("auto", device) if precision == "int8" else precision
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[in_torch]
        std = torch.tensor(self.preprocess.std, device=device)
        self._scale = self.preprocess.rescale / std
        self._shift = torch.tensor(self.preprocess.mean, device=device) / std
        self._model = model.eval().to(device)
        self._int8 = self._make_int8(at_once) if precision == "int8" else None
        self._model.vision_model.to(self._dtype)
        self._model.text_model.to(self._dtype)
        self._tokenizer = tokenizer
        self._turns = threading.BoundedSemaphore(at_once)
        self._image_lock = threading.Lock() if self._int8 else self._turns
        self._tokenizer_lock = threading.Lock()  # its truncation is shared state

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 64,
        one_core_each: bool = False,
    ) -> Self:
        """Loads what `resolve_model(model)` finds; only that call may use the network.

        One call computes at a time, on all cores; with `one_core_each`, on a CPU, as many as there are cores:
        torch then uses one a call in this whole process, however many encoders it has.

        Raises ModelUnavailable, and ConfigError for a device or precision that is not there.
        """
        folder = resolve_model(model)
        device = _choose_device(device)
        precision = _choose_precision(precision, device)
        try:
            clip, tokenizer = _read_checkpoint(folder)
            at_once = _one_core_a_call() if one_core_each and device == "cpu" else 1
            encoder = cls(
                clip,
                tokenizer,
                name=model,
                folder=folder,
                device=device,
                precision=precision,
                batch_size=batch_size,
                at_once=at_once,
            )
        except ImageSearchError:
            raise
        except Exception as error:  # safetensors, pickle, json, torch and transformers each raise their own
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            raise ModelUnavailable(f"The model {model} cannot be loaded: {reason}.") from error
        log.info(
            "model loaded", model=model, fingerprint=encoder.fingerprint, device=device, precision=precision
        )
        return encoder

    def encode_images(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops (n, height, width, 3) of `preprocess.crop_shape` to vectors (n, dimension) of length 1.

        Raises ItemError `encode_error` for the whole call when any vector is not finite, which one picture
        can cause in a low precision: encode the crops one at a time to learn which. Raises Unavailable when
        even one picture finds no memory.
        """
        self._check_crops(crops)
        with self._image_lock:
            return self._in_batches(len(crops), lambda rows: self._image_features(crops[rows]))

    def encode_patches(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops as for `encode_images` to vectors (n, rows, columns, dimension) of length 1, one a patch.

        They lie in the space of `encode_texts`. The method is MaskCLIP's (C. Zhou, C. C. Loy, B. Dai, Extract
        Free Dense Labels from CLIP, ECCV 2022): the last layer's attention is left out, so that a patch keeps
        its own value projection, which goes through the output projection, the last normalisation and the
        visual projection as the picture's own vector does. Raises as `encode_images` does.
        """
        self._check_crops(crops)
        with self._image_lock:
            return self._in_batches(
                len(crops), lambda rows: self._patch_features(crops[rows]), (*self._patches, self.dimension)
            )

    def _check_crops(self, crops: NDArray[np.uint8]) -> None:
        expected = (*self.preprocess.crop_shape, 3)
        if crops.dtype != np.uint8 or crops.shape[1:] != expected:
            raise ValueError(f"crops are {crops.dtype} {crops.shape}, not uint8 (n, {expected})")

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts to vectors (n, dimension) of length 1; what exceeds `max_tokens` is cut off.

        Raises as `encode_images` does.
        """
        with self._turns:
            return self._in_batches(len(texts), lambda rows: self._text_features(texts[rows]))

    def truncated(self, text: str) -> bool:
        """Whether `encode_texts` would leave out the end of `text`."""
        with self._tokenizer_lock:
            tokens = self._tokenizer(_encodable(text), truncation=True, max_length=self.max_tokens + 1)
        return bool(len(tokens["input_ids"]) > self.max_tokens)

    def warm(self) -> None:
        """Runs both towers once: proves that they work and takes their first call's cost."""
        self.encode_images(np.zeros((1, *self.preprocess.crop_shape, 3), np.uint8))
        self.encode_texts(["a photo"])

    def _make_int8(self, at_once: int) -> openvino_int8.Features:
        """To be called while the model is still in fp32."""
        import torch  # noqa: PLC0415

        model = self._model

        class ImageFeatures(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.vision_model, self.visual_projection = model.vision_model, model.visual_projection

            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                features: torch.Tensor = self.visual_projection(self.vision_model(pixels).pooler_output)
                return features

        return openvino_int8.int8_features(
            ImageFeatures,
            lambda crops: np.asarray(torch.inference_mode()(self._torch_image_features)(crops)),
            self.preprocess,
            self.fingerprint,
            bf16=self._dtype is torch.bfloat16,
            threads=max(at_once, torch.get_num_threads()),
        )

    def _in_batches(
        self, count: int, features: Features, shape: tuple[int, ...] | None = None
    ) -> NDArray[np.float32]:
        """`shape` is what `features` gives of one row, (dimension,) where None."""
        vectors = np.empty((count, *(shape or (self.dimension,))), np.float32)
        start, size = 0, self.batch_size
        started: list[tuple[slice, Rows]] = []
        while start < count:
            rows = slice(start, min(start + size, count))
            batch = self._start(features, rows)
            if batch is None:
                size = self._halved(rows.stop - start)
                continue
            # Only now is the batch before waited for: a GPU has the next one while the host reads.
            for earlier, read in started:
                vectors[earlier] = read()
            started = [(rows, batch)]
            start = rows.stop
        for last, read in started:
            vectors[last] = read()
        norms = np.linalg.norm(vectors, axis=-1)
        if not (np.abs(norms - 1) < _NORM_TOLERANCE).all():  # false for NaN too
            raise ItemError("encode_error", f"The model {self.name} gave no finite vector for it.")
        return vectors

    def _start(self, features: Features, rows: slice) -> Rows | None:
        """What waits for the unit vectors; None when the device's memory does not suffice."""
        import torch  # noqa: PLC0415

        try:
            with torch.inference_mode():
                unit = torch.nn.functional.normalize(features(rows), dim=-1).float()
                vectors = unit.to("cpu", non_blocking=self._cuda)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
                return None
            raise
        copied = torch.cuda.current_stream(self.device).record_event() if self._cuda else None

        def read() -> NDArray[np.float32]:
            if copied is not None:
                copied.synchronize()
            return np.asarray(vectors)

        return read

    def _halved(self, size: int) -> int:
        """The next batch size; by now the failed batch's tensors are gone, so that the cache can go too."""
        import torch  # noqa: PLC0415

        if size == 1:
            raise Unavailable(f"The memory of {self.device_name} does not suffice to encode anything now.")
        if self._cuda:
            torch.cuda.empty_cache()
        log.warning("out of memory, halving the batch", device=self.device, batch_size=size)
        return size // 2

    def _pixels(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        import torch  # noqa: PLC0415

        # From pinned memory the GPU copies by itself; from any other the host copies once more, and waits.
        staged = torch.empty(crops.shape, dtype=torch.uint8, pin_memory=self._cuda)
        np.copyto(staged.numpy(), crops)
        pixels = staged.to(self.device, non_blocking=self._cuda).float().mul_(self._scale).sub_(self._shift)
        return pixels.permute(0, 3, 1, 2).to(self._dtype, memory_format=torch.contiguous_format)

    def _image_features(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        import torch  # noqa: PLC0415

        if self._int8 is not None:
            return torch.from_numpy(self._int8(crops))
        return self._torch_image_features(crops)

    def _torch_image_features(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        pooled = self._model.vision_model(pixel_values=self._pixels(crops)).pooler_output
        features: torch.Tensor = self._model.visual_projection(pooled.float())
        return features

    def _patch_features(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        tower = self._model.vision_model
        states = tower(pixel_values=self._pixels(crops), output_hidden_states=True).hidden_states
        last = tower.encoder.layers[-1]
        values = last.self_attn.v_proj(last.layer_norm1(states[-2]))
        patches = tower.post_layernorm(last.self_attn.out_proj(values)[:, 1:])  # without the class token
        features: torch.Tensor = self._model.visual_projection(patches.float())
        return features.reshape(len(crops), *self._patches, self.dimension)

    def _text_features(self, texts: Sequence[str]) -> torch.Tensor:
        with self._tokenizer_lock:
            tokens = self._tokenizer(
                [_encodable(text) for text in texts],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            )
        tokens = tokens.to(self.device)
        pooled = self._model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        features: torch.Tensor = self._model.text_projection(pooled.float())
        return features


def _read_checkpoint(folder: Path) -> tuple[Any, Any]:
    """The CLIPModel in fp32 on the CPU, and the tokenizer. Of pickled weights only plain tensors are read."""
    import torch  # noqa: PLC0415
    from transformers import AutoTokenizer, CLIPModel  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    local = {"local_files_only": True, "trust_remote_code": False}
    model, report = CLIPModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True, **local
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"its weights lack {missing[0]} and {len(missing) - 1} more")
    return model, AutoTokenizer.from_pretrained(folder, **local)


@cache
def _one_core_a_call() -> int:
    """How many calls then fill the cores.

    A text is hundreds of steps of microseconds: sharing each among threads costs more than it saves, and on
    cores that others use too, each step waits for the thread that comes last.
    """
    import torch  # noqa: PLC0415

    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    return cores


def _choose_device(device: str) -> str:
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


def _choose_precision(precision: str, device: str) -> str:
    """`auto` is bf16 where the chip computes in it, not only stores it; fp16 on older GPUs; else fp32."""
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


def _device_name(device: str) -> str:
    import torch  # noqa: PLC0415

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device == "mps" else f"{torch.get_num_threads()} CPU threads"


def _encodable(text: str) -> str:
    """JSON can carry lone surrogates, which have no UTF-8 and so no tokens."""
    return text.encode("utf-8", "replace").decode("utf-8")
