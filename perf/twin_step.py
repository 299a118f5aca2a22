"""The twin's training step: losses, optimiser and teacher of DualRel as configured by default, in PyTorch."""

import copy
import math
from typing import NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import Tensor

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.pipeline import augment
from dualrel_jax.methods import cutmix
from dualrel_jax.methods.dualrel import RAMPED, RELIABILITY_WEIGHT, DualRel
from dualrel_jax.training import schedules
from dualrel_jax.training.optimizers import UPDATE_RMS
from dualrel_jax.training.state import TrainState
from perf.twin import DualRelNetwork, Prototypes, to_torch, unit

_DEFAULTS = {"reliability": "class"}
_COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz iteration (Jordan et al. 2024)


class Batch(NamedTuple):
    """`augment.Batch` of the package with channels first; masks of CutMix and zooms, which our loss draws itself."""

    image: Tensor  # b 1 y x
    label: Tensor  # b y x
    weak: Tensor  # u 1 y x
    strong: Tensor  # 2 u 1 y x
    mask: Tensor  # u y x bool
    zooms: Tensor  # u


def to_batch(batch: augment.Batch, method: DualRel, key: jax.Array, device: str = "cpu") -> Batch:
    """Our batch as the twin's, with the masks and zooms of a step whose random numbers are `key`'s."""
    mask = cutmix.three_boxes(key, *batch.weak.shape[:2])
    zooms = method.zooms(key, len(batch.weak))
    images = (np.moveaxis(np.asarray(images), -1, -3) for images in (batch.image, batch.weak, batch.strong))
    image, weak, strong = (torch.from_numpy(np.array(images, order="C")).to(device) for images in images)
    label, mask, zooms = (torch.from_numpy(np.array(a)).to(device) for a in (batch.label, mask, zooms))
    return Batch(image, label.long(), weak, strong, mask, zooms)


class Training:
    """A student, its teacher and its optimiser, from the state of ours; a call is one step.

    channels_last: memory format of kernels, which activations follow. compiled: losses and gradients by torch.compile.
    """

    def __init__(self, config: ConfigDict, state: TrainState, device="cpu", channels_last=False, compiled=False):
        if different := [key for key, value in _DEFAULTS.items() if config.method[key] != value]:
            raise ValueError(f"the twin is DualRel by default; it does not know other values of {different}")
        layout = {"memory_format": torch.channels_last} if channels_last else {}
        self.student = DualRelNetwork(config).to(device, **layout)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.student.load_state_dict(to_torch(jax.device_get(state.variables["student"]["params"])))
        self.teacher.load_state_dict(to_torch(jax.device_get(state.teacher["student"]["params"])))
        self.optimizer = Optimizer(self.student, config.train)
        self._method, self._ramp_steps = config.method.to_dict(), config.train.ramp_fraction * config.train.steps
        self._decay = schedules.ema_decay(config.train.ema_fraction, config.train.steps)
        self._loss = torch.compile(losses) if compiled else losses
        self.step = int(state.step)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """-> the terms of the loss, unweighted."""
        total, terms = self._loss(self.student, self.teacher, batch, self._method, self._ramp())
        self.optimizer.step(torch.autograd.grad(total, self.optimizer.params))
        a = min(self._decay, 1 - 1 / (self.step + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.teacher.parameters()), self.optimizer.params, 1 - a)
        self.step += 1
        return terms

    def _ramp(self) -> Tensor:
        """A tensor: each new float would be compiled anew."""
        steps = self._ramp_steps
        ramp = math.exp(-5 * (1 - min(self.step, steps) / steps) ** 2) if steps > 0 else 1.0
        return torch.tensor(ramp, device=self.optimizer.params[0].device)


def losses(student: DualRelNetwork, teacher: DualRelNetwork, batch: Batch, method: dict, ramp: Tensor):
    """-> (weighted sum, each term unweighted)."""
    b, u = len(batch.image), len(batch.weak)
    mix = lambda t: torch.where(batch.mask.reshape(u, *[1] * (t.ndim - 3), *t.shape[-2:]), t.roll(1, 0), t)  # noqa: E731
    zoom = lambda t: zoom_each(t, batch.zooms)  # noqa: E731
    images = torch.cat([batch.image, zoom(batch.strong[0]), mix(batch.strong[1])])
    logits, prototype = student(images)
    fused = upsample(fuse(prototype.maps), images)
    view = Prototypes(*(t[b : b + u] for t in prototype))
    with torch.no_grad():
        weak_logits, weak = teacher(batch.weak)
    z = student.reliability(view.prototypes, weak.prototypes)
    d = 1 - centred_cosine(view.maps.flatten(2), zoom(weak.maps).flatten(2))

    weights = z.shape[-1] * (-z.detach()).softmax(dim=-1)
    head = weak_logits.softmax(dim=1)
    of_prototypes = upsample(fuse(weak.maps), images)
    zoomed = zoom(head)
    target = confusion(view.maps.detach(), zoomed[:, 1:])
    relative = (target / (target.mean() + 1e-6)).clamp(math.exp(-5), math.exp(5))
    terms = {
        "supervised": supervised(logits[:b], batch.label),
        "prototype": supervised(fused[:b], batch.label),
        "diversity": diversity(prototype.maps),
        "prototype_consistency": (weights * d).mean(),
        "reliability": (torch.exp(-z) * relative + z).mean(),
        "pixel_consistency": (logits[b : b + u].softmax(dim=1) - zoomed).square().mean(),
        "cross_pseudo_label": F.cross_entropy(logits[b + u :], mix(of_prototypes.argmax(dim=1)))
        + F.cross_entropy(fused[b + u :], mix(head.argmax(dim=1))),
    }
    factors = {"supervised": 1.0, "reliability": RELIABILITY_WEIGHT}
    total = sum(
        factors.get(name, method.get(f"{name}_weight")) * (ramp if name in RAMPED else 1.0) * term
        for name, term in terms.items()
    )
    return total, terms


def zoom_each(images: Tensor, zooms: Tensor) -> Tensor:
    """`augment.zoom_each`: b c y x."""
    theta = torch.eye(2, 3, device=images.device) / zooms[:, None, None]
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def supervised(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy and soft Dice in equal parts over the labelled pixels: (b 2 y x, b y x)."""
    mask, target = (label != IGNORE).float(), (label == 1)
    entropy = F.cross_entropy(logits, target.long(), reduction="none")
    probability = logits.softmax(dim=1)[:, 1]
    overlap, total = (probability * target * mask).sum(), ((probability.square() + target) * mask).sum()
    dice = 1 - (2 * overlap + 1e-5) / (total + 1e-5)
    return ((entropy * mask).sum() / mask.sum().clamp(min=1) + dice) / 2


def fuse(maps: Tensor) -> Tensor:
    """Activation maps b k y x -> class logits b 2 y x."""
    foreground, background = maps.chunk(2, dim=1)
    return torch.stack([background.logsumexp(dim=1), foreground.logsumexp(dim=1)], dim=1)


def upsample(logits: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def centred_cosine(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True)
    norms = a.square().sum(dim=-1) * b.square().sum(dim=-1)
    return (a * b).sum(dim=-1) * torch.rsqrt(norms + 1e-6)


def confusion(maps: Tensor, mitochondrion: Tensor) -> Tensor:
    """How much of each prototype lies on the other class, (b k y x, b 1 Y X) -> b k."""
    assignment = maps.softmax(dim=1)
    p = F.interpolate(mitochondrion, maps.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
    foreground, background = assignment.chunk(2, dim=1)
    wrong = torch.cat([foreground * (1 - p), background * p], dim=1)
    return wrong.sum(dim=(2, 3)) / (assignment.sum(dim=(2, 3)) + 1e-6)


def diversity(maps: Tensor) -> Tensor:
    """Mean over pairs of prototypes of the cosine between their assignments, b k y x -> scalar."""
    flat, k = unit(maps.softmax(dim=1).flatten(2)), maps.shape[1]
    cosine = flat @ flat.transpose(1, 2)
    return (cosine * (1 - torch.eye(k, device=maps.device))).sum(dim=(1, 2)).mean() / (k * (k - 1))


class Optimizer:
    """AdamW, or Muon for kernels and AdamW with Nesterov's momentum for the rest, after a clip of the gradient.

    As optax has them: torch.optim.Muon takes matrices only and scales otherwise, NAdam has another momentum.
    """

    def __init__(self, network: DualRelNetwork, train: ConfigDict):
        self.params = list(network.parameters())
        self._train, self._nesterov, self._count = train, train.optimizer == "muon", 0
        # A parameter of `kernel` in Flax: the weight of a convolution or a dense layer.
        is_kernel = [
            self._nesterov and name.endswith("weight") and p.ndim > 1 for name, p in network.named_parameters()
        ]
        self._kernels = [i for i, kernel in enumerate(is_kernel) if kernel]
        self._others = [i for i, kernel in enumerate(is_kernel) if not kernel]
        self._first = [torch.zeros_like(p) for p in self.params]
        self._second = [torch.zeros_like(self.params[i]) for i in self._others]
        schedule = schedules.learning_rate(train.learning_rate, train.warmup_steps, train.steps)
        self._rates = [float(rate) for rate in jax.vmap(schedule)(np.arange(train.steps + 1))]

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        rate = self._rates[min(self._count, len(self._rates) - 1)]
        self._count += 1
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        gradients = torch._foreach_mul(gradients, torch.clamp(self._train.clip_norm / norm, max=1))
        self._adam([gradients[i] for i in self._others], UPDATE_RMS * rate)
        for i in self._kernels:
            self._muon(self.params[i], self._first[i], gradients[i], rate)

    def _adam(self, gradients: list[Tensor], rate: float) -> None:
        params, first = ([tensors[i] for i in self._others] for tensors in (self.params, self._first))
        torch._foreach_lerp_(first, gradients, 1 - 0.9)
        torch._foreach_mul_(self._second, 0.999)
        torch._foreach_addcmul_(self._second, gradients, gradients, 1 - 0.999)
        momentum = torch._foreach_mul(first, 1 / (1 - 0.9**self._count))
        if self._nesterov:
            momentum = torch._foreach_mul(first, 0.9 / (1 - 0.9 ** (self._count + 1)))
            torch._foreach_add_(momentum, gradients, alpha=0.1 / (1 - 0.9**self._count))
        size = torch._foreach_sqrt(torch._foreach_div(self._second, 1 - 0.999**self._count))
        torch._foreach_add_(size, 1e-8)
        torch._foreach_mul_(params, 1 - rate * self._train.weight_decay)
        torch._foreach_addcdiv_(params, momentum, size, -rate)

    def _muon(self, kernel: Tensor, first: Tensor, gradient: Tensor, rate: float) -> None:
        first.lerp_(gradient, 1 - 0.95)
        momentum = first * (0.95 / (1 - 0.95 ** (self._count + 1))) + gradient * (0.05 / (1 - 0.95**self._count))
        matrix = orthogonal(momentum.flatten(1))
        matrix = matrix * (UPDATE_RMS * max(matrix.shape) ** 0.5) + self._train.weight_decay * kernel.flatten(1)
        kernel.sub_(rate * matrix.reshape(kernel.shape))


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the closest orthogonal matrix, by five steps of Newton and Schulz."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-8)
    c0, c1, c2 = _COEFFICIENTS
    for _ in range(5):
        a = x @ x.T
        x = c0 * x + (c1 * a + c2 * a @ a) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
