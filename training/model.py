"""The model: a small `transformers.CLIPModel`, its start, and the training-only heads."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

SIDE, PATCH, WIDTH, HEADS, DIMENSION = 48, 8, 192, 3, 256


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": HEADS,
        "projection_dim": DIMENSION,
        "hidden_act": "gelu",
    }
    config = CLIPConfig(
        projection_dim=DIMENSION,
        text_config=tower
        | {
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 3,
            "max_position_embeddings": tokenizer.model_max_length,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=tower | {"num_hidden_layers": 6, "image_size": SIDE, "patch_size": PATCH},
    )
    config._attn_implementation = "eager"  # on a CPU the fused one is slower at so few tokens
    return CLIPModel(config)


@torch.no_grad()
def start_vision(clip: CLIPModel, images: torch.Tensor) -> None:
    """Start the vision tower from PCA-whitened patches of `images`, sin-cos positions and mimetic attention.

    Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers" (2023): query-key products near
    0.7 (noise + identity), value-output products near 0.4 (noise - identity).
    """
    embeddings = clip.vision_model.embeddings
    patches = F.unfold(images, PATCH, stride=PATCH).transpose(1, 2).reshape(-1, 3 * PATCH**2)
    patches = patches[torch.randperm(len(patches))[:60000]]
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    whitened = (vectors / (values + 0.0005 * values.max()).sqrt()).T * 0.6
    embeddings.patch_embedding.weight.copy_(whitened.reshape(WIDTH, 3, PATCH, PATCH))
    frequencies = 1 / 100 ** (torch.arange(WIDTH // 4) / (WIDTH / 4))
    grid = torch.cartesian_prod(*(torch.arange(SIDE // PATCH, dtype=torch.float),) * 2)
    angles = grid[:, :, None] * frequencies
    positions = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
    embeddings.position_embedding.weight[1:] = positions * 0.7
    embeddings.position_embedding.weight[0] = 0
    embeddings.class_embedding.normal_(0, 0.3)
    noise, identity = (lambda: torch.randn(WIDTH, WIDTH) / WIDTH**0.5), torch.eye(WIDTH)
    head = WIDTH // HEADS
    for layer in clip.vision_model.encoder.layers:
        attention = layer.self_attn
        for first in range(0, WIDTH, head):
            left, scale, right = torch.linalg.svd(0.7 * noise() + 0.7 * identity)
            root = scale[:head].sqrt()
            attention.q_proj.weight[first : first + head] = (left[:, :head] * root).T
            attention.k_proj.weight[first : first + head] = root[:, None] * right[:head]
        left, scale, right = torch.linalg.svd(0.4 * noise() - 0.4 * identity)
        attention.out_proj.weight.copy_(left * scale.sqrt())
        attention.v_proj.weight.copy_(scale.sqrt()[:, None] * right)
        nn.init.normal_(layer.mlp.fc1.weight, std=0.04)
        nn.init.normal_(layer.mlp.fc2.weight, std=0.02)


class Student(nn.Module):
    """CLIP with two heads that only training has: concept prototypes and a bag of words."""

    def __init__(self, clip: CLIPModel, concepts: int, words: int) -> None:
        super().__init__()
        self.clip = clip
        self.prototypes = nn.Parameter(torch.randn(concepts, DIMENSION) * 0.06)
        self.bag = nn.Linear(DIMENSION, words)
        nn.init.normal_(self.bag.weight, std=0.06)
        self.scales = nn.Parameter(torch.tensor([math.log(14.0), math.log(10.0)]))
        nn.init.constant_(clip.logit_scale, math.log(14.0))

    def images(self, pixels: torch.Tensor, keep: float = 1.0) -> torch.Tensor:
        """Unit embeddings, float (B, DIMENSION); `keep` is the share of patches seen, drawn per picture."""
        tower = self.clip.vision_model
        hidden = tower.embeddings(pixels, interpolate_pos_encoding=pixels.shape[-1] != SIDE)
        if keep < 1:
            patches = hidden.shape[1] - 1
            chosen = torch.rand(len(hidden), patches).topk(round(keep * patches)).indices + 1
            chosen = torch.cat([torch.zeros(len(hidden), 1, dtype=torch.long), chosen], 1)
            hidden = hidden.gather(1, chosen[:, :, None].expand(-1, -1, WIDTH))
        hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(hidden)).last_hidden_state[:, 0]
        return F.normalize(self.clip.visual_projection(tower.post_layernorm(hidden)).float(), dim=-1)

    def texts(self, tokens: list[list[int]], pad: int) -> torch.Tensor:
        """Unit embeddings, float (B, DIMENSION), made in two groups so that few short texts are padded."""
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        cut = len(order) * 5 // 8
        features = []
        for group in (order[:cut], order[cut:]):
            longest = len(tokens[group[-1]])
            padded = torch.tensor([tokens[i] + [pad] * (longest - len(tokens[i])) for i in group])
            features.append(self.clip.text_projection(self.clip.text_model(input_ids=padded).pooler_output))
        inverse = torch.tensor(order).argsort()
        return F.normalize(torch.cat(features)[inverse].float(), dim=-1)
