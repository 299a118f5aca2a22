"""A PyTorch twin of DualRel's network: the same function of the same parameters, with b c y x instead of b y x c."""

import math
from typing import NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import Tensor, nn

_EPSILON = 1e-6
# Parts of the names of Flax's parameters -> those of the twin's.
_NAMES = {"ConvBlock_": "blocks.", "Conv_": "convs.", "GroupNorm_": "norms.", "Dense_": "layers."}


class Prototypes(NamedTuple):
    prototypes: Tensor  # b k c, unit length
    maps: Tensor  # b k y x, activation maps


class ConvBlock(nn.Module):
    def __init__(self, inputs: int, width: int):
        super().__init__()
        sizes = (inputs, width), (width, width)
        self.convs = nn.ModuleList(nn.Conv2d(*size, 3, padding=1, bias=False) for size in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, width), width, _EPSILON) for _ in sizes)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        return x


class Encoder(nn.Module):
    def __init__(self, width: int, depth: int, stem: int):
        super().__init__()
        self.stem = stem
        widths = [stem**2] + [width * 2**level for level in range(depth)]
        self.blocks = nn.ModuleList(ConvBlock(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels, x = [], F.pixel_unshuffle(x, self.stem)
        for block in self.blocks:
            x = block(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    def __init__(self, width: int, depth: int, stem: int):
        super().__init__()
        self.stem = stem
        widths = [width * 2**level for level in reversed(range(depth - 1))]
        self.convs = nn.ModuleList([nn.Conv2d(2 * w, w, 1) for w in widths] + [nn.Conv2d(width, 2 * stem**2, 1)])
        self.blocks = nn.ModuleList(ConvBlock(2 * w, w) for w in widths)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        features = [levels[-1]]
        for conv, block, skip in zip(self.convs[:-1], self.blocks, levels[-2::-1], strict=True):
            x = F.interpolate(conv(features[0]), scale_factor=2, mode="nearest")
            features.insert(0, block(torch.cat([skip, x], dim=1)))
        with torch.autocast(skip.device.type, enabled=False):
            return F.pixel_shuffle(self.convs[-1](features[0].float()), self.stem), features


class UNet(nn.Module):
    """b 1 y x -> logits b 2 y x float32, the decoder's features, finest first."""

    def __init__(self, width: int, depth: int, stem: int):
        super().__init__()
        self.encoder, self.decoder = Encoder(width, depth, stem), Decoder(width, depth, stem)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.decoder(self.encoder(image))


class PrototypeBank(nn.Module):
    """Features b c y x -> prototypes; `rectification` is `add`."""

    def __init__(self, inputs: int, method: ConfigDict):
        super().__init__()
        self.num_references, self.temperature = method.num_references, method.temperature
        self.bank = nn.Parameter(torch.zeros(method.num_prototypes, method.dim))
        self.gain = nn.Parameter(torch.ones(()))
        self.query = nn.Linear(method.dim, method.dim, bias=False)
        self.key, self.value = (nn.Linear(inputs, method.dim, bias=False) for _ in range(2))

    def forward(self, features: Tensor) -> Prototypes:
        y, x = features.shape[2:]
        pixels = features.float().flatten(2).transpose(1, 2)  # b i c
        queries, keys, values = self.query(self.bank), self.key(pixels), unit(self.value(pixels))
        direct = queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5  # b k i
        usage = direct.detach().softmax(dim=-1).sum(dim=1)
        indices = usage.topk(min(self.num_references, y * x), dim=1).indices
        references = keys.gather(1, indices[..., None].expand(-1, -1, keys.shape[-1]))
        attention = (direct + self.gain * referential_correlation(queries, keys, references)).softmax(dim=-1)
        prototypes = unit(attention @ values)
        maps = prototypes @ values.transpose(1, 2) / self.temperature
        return Prototypes(prototypes, maps.unflatten(2, (y, x)))


class ReliabilityHead(nn.Module):
    """Descriptors of each prototype in two views, b k c each -> log-variance b k."""

    def __init__(self, dim: int, hidden: int = 32):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2 * dim, hidden), nn.Linear(hidden, 1)])

    def forward(self, view: Tensor, other: Tensor) -> Tensor:
        view, other = view.detach(), other.detach()
        both = torch.cat([view + other, (view - other).square()], dim=-1)
        return self.layers[1](F.relu(self.layers[0](both)))[..., 0]


class DualRelNetwork(nn.Module):
    """b 1 y x -> logits b 2 y x, prototypes of each image. `bfloat16`: the U-Net under autocast, as ours."""

    def __init__(self, config: ConfigDict):
        super().__init__()
        level, model = config.method.feature_level, config.model
        if config.method.rectification != "add" or model.norm != "group":
            raise ValueError("the twin has the rectification `add` and group norm only")
        self.level, self.bfloat16 = level, model.dtype == "bfloat16"
        self.unet = UNet(model.width, model.depth, model.stem)
        self.bank = PrototypeBank(model.width * 2**level, config.method)
        self.reliability = ReliabilityHead(config.method.dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Prototypes]:
        logits, features = self._segment(image)
        return logits, self.bank(features[self.level])

    def probability(self, image: Tensor) -> Tensor:
        """Of mitochondrion by the head, b 1 y x -> b y x."""
        return self._segment(image)[0].softmax(dim=1)[:, 1]

    def _segment(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.unet(image)


def unit(vectors: Tensor) -> Tensor:
    return vectors * torch.rsqrt(vectors.square().sum(dim=-1, keepdim=True) + _EPSILON)


def referential_correlation(queries: Tensor, keys: Tensor, references: Tensor) -> Tensor:
    """(k c, b i c, b n c) -> b k i in [-1, 1]."""
    centred = references - references.mean(dim=1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / references.shape[1]
    keys_g, queries_g = keys @ covariance, queries @ covariance
    mean_square = references.square().sum(dim=-1).mean(dim=1, keepdim=True) / queries.shape[-1]

    def norm(v: Tensor, v_g: Tensor) -> Tensor:
        return torch.sqrt((v_g * v).sum(dim=-1) + 1e-4 * mean_square * v.square().sum(dim=-1) + 1e-20)

    return queries @ keys_g.transpose(1, 2) / (norm(queries, queries_g)[..., None] * norm(keys, keys_g)[:, None])


def to_torch(params) -> dict[str, Tensor]:
    """Flax's parameters of a DualRelNetwork (nested dicts) under the twin's names and in its axes."""
    tensors = {}
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        *modules, leaf = (key.key for key in path)
        value = np.asarray(value)
        if leaf == "kernel":  # inputs last but one, outputs last -> outputs, inputs, then y x
            value = np.moveaxis(value, (-1, -2), (0, 1))
        name = ".".join([*modules, {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)])
        for old, new in _NAMES.items():
            name = name.replace(old, new)
        tensors[name] = torch.from_numpy(np.array(value, order="C"))
    return tensors
