"""A plain U-Net in PyTorch, trained as 2-D medical benchmarks (SSL4MIS) do, supervised or as a Mean Teacher.

Channels 16 to 256, batch norm, LeakyReLU, dropout that rises with depth; half cross-entropy, half soft Dice; SGD with
poly decay; 12 labelled crops of 256 x 256 a step and, as a Mean Teacher, 12 unlabelled ones. Written from the
recipe's description; needs torch, numpy and pillow.
"""

import copy
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from command_line import parse
from PIL import Image
from torch import nn

CROP, BATCH = 256, 12
WIDTHS, DROPOUT = (16, 32, 64, 128, 256), (0.05, 0.1, 0.2, 0.3, 0.5)
RATE, MOMENTUM, DECAY, POWER = 0.01, 0.9, 1e-4, 0.9
CONSISTENCY, EMA, NOISE = 0.1, 0.99, 0.1  # weight at the end of the ramp; memory of the teacher; of its input


def block(inputs: int, width: int, dropout: float = 0.0) -> nn.Sequential:
    layers = []
    for channels in (inputs, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU()]
        layers += [nn.Dropout(dropout)] if dropout and len(layers) == 3 else []
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """b 1 y x -> logits b 2 y x; y and x are multiples of 16."""

    def __init__(self):
        super().__init__()
        inputs = (1, *WIDTHS[:-1])
        self.down = nn.ModuleList(block(*layer) for layer in zip(inputs, WIDTHS, DROPOUT, strict=True))
        pairs = list(zip(WIDTHS[::-1], WIDTHS[-2::-1], strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.merge = nn.ModuleList(block(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(WIDTHS[0], 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, layers in enumerate(self.down):
            x = layers(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


def read(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path), np.float32) / 255 for path in sorted(folder.glob("*.png"))]


def crops(rng: np.random.Generator, images: list, masks: list | None) -> tuple[torch.Tensor, torch.Tensor]:
    """BATCH random crops, mirrored and turned by quarters or rotated by up to 20 degrees, each half of the time."""
    pairs = []
    for _ in range(BATCH):
        i = rng.integers(len(images))
        y, x = (rng.integers(size - CROP + 1) for size in images[i].shape)
        window = slice(y, y + CROP), slice(x, x + CROP)
        image = images[i][window]
        pair = np.stack([image, masks[i][window] if masks else image])
        if rng.random() < 0.5:
            pair = np.flip(np.rot90(pair, rng.integers(4), (1, 2)), 1 + rng.integers(2))
        elif rng.random() < 0.5:
            pair = rotate(pair, math.radians(rng.uniform(-20, 20)))
        pairs.append(torch.from_numpy(np.ascontiguousarray(pair)))
    batch = torch.stack(pairs)
    return batch[:, :1], (batch[:, 1] > 0.5).long()


def rotate(pair: np.ndarray, angle: float) -> np.ndarray:
    """Nearest neighbour, zeros from outside: 2 y x."""
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])
    grid = F.affine_grid(turn[None], (1, 2, *pair.shape[1:]), align_corners=False)
    return F.grid_sample(torch.from_numpy(pair)[None], grid, mode="nearest", align_corners=False)[0].numpy()


def supervised(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    probability = logits.softmax(dim=1)
    truth = F.one_hot(label, 2).movedim(-1, 1).float()
    overlap = (probability * truth).sum((0, 2, 3))
    total = (probability.square() + truth.square()).sum((0, 2, 3))
    dice = 1 - ((2 * overlap + 1e-5) / (total + 1e-5)).mean()
    return (F.cross_entropy(logits, label) + dice) / 2


def train(task: Path, work: Path, steps: int, mean_teacher: bool) -> None:
    torch.manual_seed(0)
    rng, student = np.random.default_rng(0), UNet()
    teacher = copy.deepcopy(student).requires_grad_(False)
    images, masks = read(task / "images"), read(task / "masks")
    unlabelled = read(task / "unlabelled") if mean_teacher else []
    optimizer = torch.optim.SGD(student.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    start = time.process_time()
    for step in range(steps):
        image, label = crops(rng, images, masks)
        if mean_teacher:
            weak, _ = crops(rng, unlabelled, None)
            logits = student(torch.cat([image, weak]))
            with torch.no_grad():
                noise = (torch.randn_like(weak) * NOISE).clamp(-0.2, 0.2)
                target = teacher(weak + noise).softmax(dim=1)
            ramp = math.exp(-5 * (1 - step / steps) ** 2)
            consistency = (logits[BATCH:].softmax(dim=1) - target).square().mean()
            loss = supervised(logits[:BATCH], label) + CONSISTENCY * ramp * consistency
        else:
            loss = supervised(student(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - (step + 1) / steps) ** POWER
        with torch.no_grad():
            decay = min(1 - 1 / (step + 1), EMA)
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - decay)
        print(f"step {step + 1} of {steps}, loss {loss.item():.4f}", flush=True)
    seconds = time.process_time() - start
    torch.save(student.state_dict(), work / "weights.pt")
    (work / "train.json").write_text(json.dumps({"steps": steps, "loop_cpu_seconds": seconds}))


@torch.inference_mode()
def predict(task: Path, work: Path, output: Path) -> None:
    """Whole slices, the more probable class."""
    network = UNet()
    network.load_state_dict(torch.load(work / "weights.pt"))
    network.eval()
    masks = []
    for image in read(task / "scored"):
        y, x = image.shape
        padded = np.pad(image, ((0, -y % 16), (0, -x % 16)), mode="reflect")
        masks.append(network(torch.from_numpy(padded)[None, None]).argmax(dim=1)[0, :y, :x].numpy())
    np.save(output, np.stack(masks).astype(np.uint8))


def main() -> None:
    flags = parse(__doc__, "--mean-teacher")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if flags.action == "train":
        train(flags.task, flags.work, flags.steps, flags.mean_teacher)
    else:
        predict(flags.task, flags.work, flags.output)


if __name__ == "__main__":
    main()
