"""Checks of each mask against the others: an inverted one, and one saved for two slices."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from dualrel_jax.data.checks.finding import Finding, list_some
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.utils.ranges import evenly_spaced

_SLICES = 64  # looked at in a volume, evenly spaced over its labels
# Foreground fractions of slices of four tissues: median 0.03 to 0.10, at most 0.16, of quarters of slices 0.31. So an
# inverted mask has 0.69 or more.
_INVERTED = 0.6  # more than this, where the median of the others is
_USUAL = 0.3  # less than this


def check_single_masks(part: Part) -> Iterator[Finding]:
    """Masks that look inverted beside the others, and masks that several slices have; `slices` of a finding names them.

    All labels of the volume are compared, also those that are kept to validate on.
    """
    fractions, hashes = {}, {}
    for z in evenly_spaced(sorted(part.rule.index), _SLICES):
        mask = part.rule.decode(part.label[part.rule.index[z]]) == 1
        fractions[z] = float(mask.mean())
        if mask.any():
            hashes.setdefault(hashlib.sha256(np.packbits(mask)).digest(), []).append(z)
    inverted = [z for z, fraction in fractions.items() if fraction > _INVERTED]
    others = [fraction for z, fraction in fractions.items() if z not in inverted]
    usual = float(np.median(others)) if others else 1.0
    if inverted and usual < _USUAL:
        least = f"{min(fractions[z] for z in inverted):.0%}"
        marks, them = (f"marks {least}", "it") if len(inverted) == 1 else (f"mark {least} or more", "these")
        yield Finding(
            f"{list_masks(part, inverted)} of {part.label.path} {marks} of the pixels as mitochondrion, but the "
            f"others {usual:.0%}; expected about as much: invert {them} alone (Fiji: Edit > Invert) if background and "
            "mitochondria are exchanged.",
            look=True,
            slices=tuple(inverted),
        )
    same = [zs for zs in hashes.values() if len(zs) > 1]
    if same:
        groups = "; ".join(list_masks(part, zs) for zs in same[:3]) + ("; and others" if same[3:] else "")
        yield Finding(
            f"Masks of {part.label.path} are the same in several slices ({groups}); expected one for each: save the "
            "mask that belongs to each slice, and remove copies.",
            look=True,
            slices=tuple(z for zs in same for z in zs),
        )


def list_masks(part: Part, zs: Sequence[int]) -> str:
    """Files of a folder, or places in a stack: "0012.png, 0047.png", "z = 12, 47"."""
    names = part.label.names
    listed = list_some([names[part.rule.index[z]] for z in zs] if names else zs, len(zs))
    return listed if names else f"z = {listed}"
