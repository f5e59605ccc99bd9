"""Other tools, each driven as its own docs say for many pictures, in an environment of its own.

`python peer_drivers.py PEER CHECKPOINT WORK FEW ALL` prints pictures per second from the files of a folder
to vectors, and leaves those of FEW, in the order of their names, in WORK/few.npy. A call's fixed cost
(loading, for those that load in each call) is taken off: the rate is that of what ALL has over FEW.
"""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Embed = Callable[[Path], np.ndarray]
CORES = len(os.sched_getaffinity(0))
BATCH = 16


def sentence_transformers(checkpoint: Path, work: Path) -> Embed:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device="cpu", model_kwargs={"dtype": "bfloat16"})
    return lambda folder: model.encode(_files(folder), batch_size=BATCH, normalize_embeddings=True)


def infinity_emb(checkpoint: Path, work: Path) -> Embed:
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    name = str(checkpoint)
    arguments = EngineArgs(
        model_name_or_path=name, engine="torch", device="cpu", dtype="int8", batch_size=BATCH
    )
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())

    def embed(folder: Path) -> np.ndarray:
        images = [Path(path).read_bytes() for path in _files(folder)]
        vectors, _ = loop.run_until_complete(engine.image_embed(images=images))
        return np.stack(vectors)

    return embed


def embed_anything(checkpoint: Path, work: Path) -> Embed:
    """It only loads from the hub or its cache: the checkpoint is put there under a name that it knows."""
    from embed_anything import EmbeddingModel, embed_image_directory

    name = "openai/clip-vit-base-patch32"
    cached = work / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(checkpoint, cached / "snapshots" / "random")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("random")
    os.environ["HF_HOME"] = str(work)
    model = EmbeddingModel.from_pretrained_hf(name)

    def embed(folder: Path) -> np.ndarray:
        found = embed_image_directory(str(folder), embedder=model)
        return np.array([one.embedding for one in sorted(found, key=lambda one: one.metadata["file_name"])])

    return embed


def clip_retrieval(checkpoint: Path, work: Path) -> Embed:
    from clip_retrieval import clip_inference

    def embed(folder: Path) -> np.ndarray:
        output = work / f"embeddings{time.monotonic_ns()}"
        clip_inference(
            str(folder),
            str(output),
            clip_model=f"hf_clip:{checkpoint}",
            enable_text=False,
            batch_size=BATCH,
            num_prepro_workers=CORES,
        )
        return np.concatenate([np.load(path) for path in output.glob("img_emb/*.npy")])

    return embed


def fastembed(checkpoint: Path, work: Path) -> Embed:
    from fastembed import ImageEmbedding

    _export_onnx(checkpoint, work / "model.onnx", 224)
    (work / "preprocessor_config.json").write_text(json.dumps(_image_processor(checkpoint)))
    model = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", specific_model_path=str(work))
    return lambda folder: np.stack(list(model.embed(_files(folder), batch_size=BATCH, parallel=CORES)))


def rclip(checkpoint: Path, work: Path) -> Embed:
    """Its own model takes 256 pixels: it is given ours behind a crop, which only takes work from it."""
    from rclip.main import init_rclip
    from rclip.model_download import MODEL_SUBDIR, TEXTUAL_ONNX, TOKENIZER_VOCAB, VISUAL_ONNX

    _export_onnx(checkpoint, work / "visual.onnx", 256)

    def embed(folder: Path) -> np.ndarray:
        data = work / f"data{time.monotonic_ns()}"
        for name in (f"{MODEL_SUBDIR}/{VISUAL_ONNX}", f"{MODEL_SUBDIR}/{TEXTUAL_ONNX}", TOKENIZER_VOCAB):
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).symlink_to(work / "visual.onnx")
        os.environ["RCLIP_DATADIR"] = str(data)
        index, model, database = init_rclip(str(folder), indexing_batch_size=8)
        names, vectors = index._get_features(str(folder))
        for each in (index, model, database):
            each.close()
        return vectors[np.argsort(names)]

    return embed


def _files(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.jpg")))


def _image_processor(checkpoint: Path) -> Any:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (checkpoint / name).exists():
            loaded = json.loads((checkpoint / name).read_text())
            return loaded.get("image_processor", loaded)
    raise FileNotFoundError(checkpoint)


def _export_onnx(checkpoint: Path, path: Path, side: int) -> None:
    import torch
    from transformers import CLIPVisionModelWithProjection

    class Vision(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = CLIPVisionModelWithProjection.from_pretrained(checkpoint).eval()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            edge = (side - 224) // 2
            return self.model(pixel_values=pixels[:, :, edge : edge + 224, edge : edge + 224]).image_embeds

    torch.onnx.export(
        Vision(),
        (torch.zeros(2, 3, side, side),),
        path,
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
    )


def main() -> None:
    peer, (checkpoint, work, few, everything) = sys.argv[1], map(Path, sys.argv[2:])
    embed = globals()[peer](checkpoint, work)
    np.save(work / "few.npy", embed(few))
    seconds, counts = [], []
    for folder in (few, everything):
        started = time.perf_counter()
        vectors = embed(folder)
        seconds.append(time.perf_counter() - started)
        counts.append(len(vectors))
        assert vectors.shape == (len(_files(folder)), 512), vectors.shape
        assert np.isfinite(vectors).all()
    print((counts[1] - counts[0]) / (seconds[1] - seconds[0]), flush=True)
    os._exit(0)  # a tool's threads may live on


if __name__ == "__main__":
    main()
