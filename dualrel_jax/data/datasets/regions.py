"""The regions of a volume that train and validate: boxes in z, y and x that do not overlap."""

import math
from typing import NamedTuple

from ml_collections import ConfigDict

from dualrel_jax.data.datasets.labels import Source
from dualrel_jax.errors import InputError
from dualrel_jax.utils.boxes import parse_box

GAP = 4  # slices left out between training and validation, because neighbours look alike


class Region(NamedTuple):
    """A box of a volume.

    Attributes:
      zs: its slices, counted in the volume; empty: no region.
      window: its (y, x) in every slice, pixels of the volume.
    """

    zs: tuple[int, ...]
    window: tuple[slice, slice]

    def overlaps(self, other: "Region") -> bool:
        pairs = zip(self.window, other.window, strict=True)
        return bool(set(self.zs) & set(other.zs)) and all(a.start < b.stop and b.start < a.stop for a, b in pairs)


def regions(config: ConfigDict, source: Source, train: str, validation: str) -> tuple[Region, Region]:
    """(training, validation) regions of the training volume, apart from each other; the second may be empty.

    Args:
      config: `config.data`, whose `train_region` and `validation_region` come first.
      train, validation: z ranges of the data set: "a:b", "" for all, "none"; `validation` may be "auto", which is
        `_last_fifth`.

    Raises:
      InputError: a region that is not understood, lies outside the volume, overlaps the other, or holds no label.
    """
    held_out = _validation(config, source, validation)
    if config.train_region:
        region = parse_region(config.train_region, "data.train_region", source)
        if region.overlaps(held_out):
            raise InputError(
                f"data.train_region={config.train_region} overlaps the validation slices {held_out.zs[0]}:"
                f"{held_out.zs[-1] + 1}; expected regions apart: change it, or set data.validation_region (or none)."
            )
    else:
        region = _default(train, source)
        if held_out.zs and (config.validation_region or validation == "auto"):
            region = region._replace(
                zs=tuple(z for z in region.zs if not held_out.zs[0] - GAP <= z <= held_out.zs[-1] + GAP)
            )
            if not region.zs:
                raise InputError(
                    f"data.validation_region={config.validation_region} leaves no slice for training; choose a smaller "
                    "one, or set data.train_region to a region beside it, such as 0:128,,0:704."
                )
    if not held_out.zs:
        print(f"{config.name}: no validation slices, all labels can train; data.validation_region=a:b spares some.")
    return region, held_out


def _validation(config: ConfigDict, source: Source, default: str) -> Region:
    chosen = config.validation_region
    if chosen and chosen != "none":
        region = parse_region(chosen, "data.validation_region", source)
        if not any(z in source.rule.index for z in region.zs):
            raise InputError(
                f"data.validation_region={chosen} holds no labelled slice; expected at least one, or none."
            )
        return region
    if chosen == "none" or (default == "auto" and config.train_region):
        return _default("none", source)
    if default == "auto":
        return Region(_last_fifth(source), _whole(source))
    return _default(default, source)


def parse_region(text: str, key: str, source: Source) -> Region:
    """The region of a volume that the field `key` says: see `boxes.parse_box`; InputError where it is none."""
    y_size, x_size = source.image.shape[1:]
    inside = (slice(source.zs[0], source.zs[-1] + 1), slice(0, y_size), slice(0, x_size))
    try:
        slices, *window = parse_box(text, inside)
    except ValueError as error:
        raise InputError(f"{key} is {text!r}: {error}, of {source.image.path}.") from None
    return Region(tuple(z for z in source.zs if slices.start <= z < slices.stop), tuple(window))


def _default(text: str, source: Source) -> Region:
    """A data set's own range of slices, as far as the volume reaches."""
    if text == "none":
        return Region((), _whole(source))
    start, _, stop = text.partition(":")
    zs = tuple(z for z in source.zs if int(start or 0) <= z < (int(stop) if stop else math.inf))
    return Region(zs, _whole(source))


def _last_fifth(source: Source) -> tuple[int, ...]:
    """Slices from the last fifth of the labelled ones; empty where labels are too few to spare any.

    Labels are precious in a person's own volume: with fewer than 8, or where the gap would cost half of them, all of
    them train.
    """
    labelled = sorted(source.rule.index)
    first, last = labelled[-max(1, len(labelled) // 5)], labelled[-1]
    left = sum(z < first - GAP for z in labelled)
    if len(labelled) < 8 or 2 * left < len(labelled):
        return ()
    return tuple(range(first, last + 1))


def _whole(source: Source) -> tuple[slice, slice]:
    y_size, x_size = source.image.shape[1:]
    return slice(0, y_size), slice(0, x_size)
