"""A batch of drawings made different each time it is seen: tensor operations on the whole batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from training.captions import COLOUR_VALUES


@dataclass
class Plan:
    """What is done to each picture of a batch, since its caption has to say so.

    `partner` is the place in the batch of a second drawing beside the first, or -1; `colour` numbers the
    background's colour name, or -1; `snow` puts the drawing into a snowy scene.
    """

    partner: torch.Tensor
    colour: torch.Tensor
    snow: torch.Tensor

    @classmethod
    def draw(cls, size: int) -> "Plan":
        chance = torch.rand(size)
        partner = torch.where(chance < 0.10, (torch.arange(size) + size // 2) % size, -1)
        colour = torch.where(
            (chance >= 0.10) & (chance < 0.14), torch.randint(len(COLOUR_VALUES), (size,)), -1
        )
        return cls(partner, colour, (chance >= 0.14) & (chance < 0.19))


def aspects(pictures: torch.Tensor) -> torch.Tensor:
    """Width over height of each drawing, in [1/3, 3], from its opaque pixels; pictures (N, 4, n, n)."""
    opaque = pictures[:, 3] > 20
    return (opaque.any(1).sum(1) / opaque.any(2).sum(1).clamp(min=1)).clamp(1 / 3, 3)


def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
    return torch.empty(*shape).uniform_(low, high)


def warped(
    rgba: torch.Tensor,
    aspect: torch.Tensor,
    flippable: torch.Tensor,
    share: torch.Tensor,
    shift: torch.Tensor,
    side: int,
) -> torch.Tensor:
    """Each drawing filling `share` of the canvas around `shift`, turned, sheared and flipped a little.

    Two in five are stretched to a square, as the image processor does with a picture that is not one.
    """
    size = len(rgba)
    squared = torch.where(torch.rand(size) < 0.4, aspect, 1.0)
    share = share * torch.maximum(squared, 1 / squared).sqrt()
    stretch, turn = uniform(-0.1, 0.1, size).exp() * squared.sqrt(), torch.randn(size) * 0.1
    flip = torch.where((torch.rand(size) < 0.4) & flippable, -1.0, 1.0)
    cos, sin = turn.cos() / share, turn.sin() / share
    linear = torch.stack(
        [torch.stack([flip * cos * stretch, -sin], 1), torch.stack([flip * sin, cos / stretch], 1)], 1
    )
    offset = -(linear @ shift[:, :, None])
    grid = F.affine_grid(torch.cat([linear, offset], 2), [size, 4, side, side], align_corners=False)
    return F.grid_sample(rgba, grid, align_corners=False)


def placed(
    rgba: torch.Tensor, aspect: torch.Tensor, flippable: torch.Tensor, plan: Plan, side: int
) -> torch.Tensor:
    """Drawings at 55 to 105 % of the canvas, moved within it; a pair stands side by side."""
    size, pair = len(rgba), plan.partner >= 0
    share = uniform(0.55, 1.05, size)
    shift = uniform(-0.6, 0.6, size, 2) * (1.08 - share).clamp(min=0.06)[:, None]
    share = torch.where(pair, share * 0.55, share)
    shift[:, 0] = torch.where(pair, uniform(0.4, 0.5, size) * (torch.rand(size) - 0.5).sign(), shift[:, 0])
    rgba = F.interpolate(rgba, size=(round(side * 0.85),) * 2, mode="bilinear", antialias=True)
    out = warped(rgba, aspect, flippable, share, shift, side)
    if pair.any():
        other = plan.partner[pair]
        second = warped(rgba[other], aspect[other], flippable[other], share[pair], -shift[pair], side)
        out[pair] += second * (1 - out[pair, 3:])
    return out


def backgrounds(plan: Plan) -> torch.Tensor:
    size = len(plan.colour)
    chance, random_colour = torch.rand(size, 1), torch.rand(size, 3)
    colour = torch.ones(size, 3)
    colour = torch.where(chance > 0.70, 0.75 + 0.25 * random_colour, colour)
    colour = torch.where(chance > 0.85, random_colour, colour)
    colour = torch.where(chance > 0.95, 0.15 * random_colour, colour)
    named = (COLOUR_VALUES[plan.colour] + uniform(-0.08, 0.08, size, 3)).clamp(0, 1)
    colour = torch.where(plan.colour[:, None] >= 0, named, colour)
    wintry = torch.tensor([0.62, 0.75, 0.9]) + uniform(-0.12, 0.1, size, 3)
    return torch.where(plan.snow[:, None], wintry, colour)


def snowed(image: torch.Tensor) -> torch.Tensor:
    """White flakes all over and a white ground."""
    count, _, side, _ = image.shape
    flakes = (torch.rand(count, 1, side // 2, side // 2) < 0.06).float()
    flakes = F.interpolate(flakes, size=(side, side), mode="bilinear")
    ground = (torch.linspace(0, 1, side)[None, None, :, None] > uniform(0.72, 0.9, count, 1, 1, 1)).float()
    cover = torch.maximum(flakes, ground * 0.9)
    return image * (1 - cover) + cover


def contoured(image: torch.Tensor) -> torch.Tensor:
    """Darken the edges between colours, as drawings with contours have them; a quarter is pale inside."""
    padded = F.pad(image, (0, 1, 0, 1), mode="replicate")
    fine = F.max_pool2d(padded, 2, 1) + F.max_pool2d(-padded, 2, 1)
    broad = F.max_pool2d(image, 3, 1, 1) + F.max_pool2d(-image, 3, 1, 1)
    edge = torch.where(torch.rand(len(image), 1, 1, 1) < 0.6, fine, broad)
    lines = 1 - (2.5 * edge.amax(1, keepdim=True) - 0.3).clamp(0, 1) * 0.9
    pale = torch.where(torch.rand(len(image), 1, 1, 1) < 0.25, uniform(0.5, 1, len(image), 1, 1, 1), 0.0)
    return (image + (1 - image) * pale) * lines


def repainted(image: torch.Tensor) -> torch.Tensor:
    """Other shades, by mixing the channels so that grays stay, and half of them in a few flat steps."""
    mix = torch.eye(3) + torch.randn(len(image), 3, 3) * 0.15
    image = torch.einsum("bij,bjhw->bihw", mix / mix.sum(2, keepdim=True), image).clamp(0, 1)
    steps = torch.randint(2, 5, (len(image), 1, 1, 1))
    flat = torch.rand(len(image), 1, 1, 1) < 0.5
    return torch.where(flat, (image * steps).round() / steps, image)


def augment(
    pictures: torch.Tensor,
    aspect: torch.Tensor,
    mono: torch.Tensor,
    flippable: torch.Tensor,
    plan: Plan,
    side: int,
) -> torch.Tensor:
    """Premultiplied RGBA uint8 (B, 4, n, n) to RGB float (B, 3, side, side) in [-1, 1]."""
    size = len(pictures)
    rgba = pictures.float() / 255
    tint = torch.rand(size, 3, 1, 1) * torch.where(torch.rand(size, 1, 1, 1) < 0.5, 0.0, 0.9)
    rgba[:, :3] = torch.where(mono[:, None, None, None], rgba[:, :3] + rgba[:, 3:] * tint, rgba[:, :3])
    rgba = placed(rgba, aspect, flippable, plan, side)
    image = rgba[:, :3] + (1 - rgba[:, 3:]) * backgrounds(plan)[:, :, None, None]
    image[plan.snow] = snowed(image[plan.snow])
    painted = torch.rand(size) < 0.25
    image[painted] = repainted(image[painted])
    drawn = torch.rand(size) < 0.3
    image[drawn] = contoured(image[drawn])
    coloured = plan.colour < 0  # a caption that names a colour stays true
    image = (image - 0.5) * uniform(0.8, 1.15, size, 1, 1, 1) + 0.5 + uniform(-0.08, 0.08, size, 1, 1, 1)
    image = image * uniform(0.92, 1.08, size, 3, 1, 1)
    gray = image.mean(1, keepdim=True)
    strength = torch.where((torch.rand(size) < 0.05) & coloured, torch.zeros(size), uniform(0.5, 1.35, size))
    image = gray + (image - gray) * strength[:, None, None, None]
    return image.clamp(0, 1) * 2 - 1
