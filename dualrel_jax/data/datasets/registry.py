"""The data sets by name: training, validation and test slices as 8-bit images and labels at one pixel size."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.datasets.labels import LabelRule, Source, fully_labelled
from dualrel_jax.data.datasets.own import read_own, read_test
from dualrel_jax.data.datasets.public import LAYOUTS, read_layout
from dualrel_jax.data.io.resample import resample_image, resample_label
from dualrel_jax.data.io.volume import Volume, intensity_range, to_uint8
from dualrel_jax.data.io.voxel import PIXEL_NM, check_likely
from dualrel_jax.data.phantom import phantom
from dualrel_jax.errors import InputError

GAP = 4  # slices left out between training and validation, because neighbours look alike


@dataclass(frozen=True)
class Part:
    """Slices of one volume, read when asked for.

    Attributes:
      name: unique in a data set, such as "lucchi/train".
      image: z y x, native.
      label: None without labels.
      zs: slices of `image` that belong to the part.
      labelled_zs: those with a label.
      rule: how to read `label`.
      pixel_nm: (y, x) of training, nm; None where no voxel size is known: slices stay as they are.
      range: (low, high) intensity of `image` that becomes 0 and 255.
    """

    name: str
    image: Volume
    label: Volume | None
    zs: tuple[int, ...]
    labelled_zs: tuple[int, ...]
    rule: LabelRule | None
    pixel_nm: tuple[float, float] | None
    range: tuple[float, float]

    @property
    def shape_at_training(self) -> tuple[int, int]:
        """(y, x) of a slice at the training pixel size."""
        return training_shape(self.image, self.pixel_nm)

    def image_at(self, z: int) -> np.ndarray:
        """Slice z: uint8 (y, x) at the training pixel size."""
        native = to_uint8(self.image[z], self.range, f"{self.image.path}, slice {z}")
        return resample_image(native, self.shape_at_training)

    def label_at(self, z: int) -> np.ndarray:
        """Label of slice z, one of `labelled_zs`: uint8 (y, x) in {0, 1, 255 = ignore} at the training pixel size."""
        return resample_label(self.native_label_at(z), self.shape_at_training)

    def native_label_at(self, z: int) -> np.ndarray:
        """Label of slice z, one of `labelled_zs`: uint8 (y, x) in {0, 1, 255 = ignore} at the volume's pixel size."""
        return self.rule.decode(self.label[self.rule.index[z]])


def training_shape(volume: Volume, pixel_nm: tuple[float, float] | None) -> tuple[int, int]:
    """Shape y x of the volume's slices at the training pixel size."""
    y, x = volume.shape[1:]
    if pixel_nm is None or volume.voxel_nm is None:
        return y, x
    return max(1, round(y * volume.voxel_nm[1] / pixel_nm[0])), max(1, round(x * volume.voxel_nm[2] / pixel_nm[1]))


@dataclass(frozen=True)
class Dataset:
    """Parts for training (the first is the one cut into blocks), validation and test; the last two may be empty."""

    name: str
    train: tuple[Part, ...]
    validation: tuple[Part, ...]
    test: tuple[Part, ...]


@dataclass(frozen=True)
class Raw:
    """What a data set's files hold: "train", optionally "test", and further volumes, labelled or not, by any name.

    `train` and `validation` are the default z ranges of the training volume: "a:b", "" for all of it, "none"; a
    `validation` of "auto" leaves it to `_last_fifth`.
    """

    sources: dict[str, Source]
    train: str
    validation: str


def load_dataset(config: ConfigDict) -> Dataset:
    """Opens the volumes of `config.name` and cuts them into parts; `config` has the fields of `config.data`.

    Raises:
      InputError: unknown data set, missing or unusable files, bad ranges, or a voxel size that is needed but unknown.
    """
    if config.name not in DATASETS:
        raise InputError(f"data.name={config.name} is unknown; expected one of {', '.join(DATASETS)}.")
    raw = DATASETS[config.name](config)
    sources = dict(raw.sources)
    if config.test_image or config.test_label:
        sources["test"] = read_test(config)
    sources.update(_unlabelled_elsewhere(config))
    for split, source in sources.items():
        check_likely(source.image.voxel_nm, source.image.path, f"data.{'test_' if split == 'test' else ''}voxel_nm")
    train_zs, validation_zs = _blocks(config, raw)
    pixel_nm = _training_pixel(config, sources)
    ranges = {split: intensity_range(source.image, source.zs) for split, source in sources.items()}

    def part(name: str, split: str, zs: Sequence[int]) -> Part:
        source = sources[split]
        return Part(
            name=f"{config.name}/{name}",
            image=source.image,
            label=source.label,
            zs=tuple(zs),
            labelled_zs=tuple(z for z in zs if source.rule and z in source.rule.index),
            rule=source.rule,
            pixel_nm=pixel_nm,
            range=ranges[split],  # one for all blocks of a volume
        )

    further = [part(split, split, source.zs) for split, source in sources.items() if split not in ("train", "test")]
    return Dataset(
        name=config.name,
        train=(part("train", "train", train_zs), *further),
        validation=(part("validation", "train", validation_zs),) if validation_zs else (),
        test=(part("test", "test", sources["test"].zs),) if "test" in sources else (),
    )


# ---------------------------------------------------------------------------------------------------------------------
# The registry
# ---------------------------------------------------------------------------------------------------------------------


def _phantom(config: ConfigDict) -> Raw:
    _only_files(config)
    sources = {split: fully_labelled(*phantom(config.name, split), "instances") for split in ("train", "test")}
    return Raw(sources, "0:128", "132:148")


def _public(config: ConfigDict) -> Raw:
    layout = LAYOUTS[config.name]
    if config.source == "tfds":
        from dualrel_jax.data.datasets.tfds.prepared import read_prepared

        sources = read_prepared(config.name, config.tfds_dir)
    elif config.source == "files":
        sources = read_layout(config.name, config.dir)
    else:
        raise InputError(f"data.source={config.source} is unknown; expected files or tfds.")
    return Raw(sources, layout.train, layout.validation)


def _own(config: ConfigDict) -> Raw:
    _only_files(config)
    return Raw(read_own(config), "", "auto")


def _only_files(config: ConfigDict) -> None:
    if config.source != "files":
        raise InputError(
            f"data.source={config.source} does not go with data.name={config.name}; expected files: only "
            f"{', '.join(LAYOUTS)} have TFDS builders."
        )


DATASETS: dict[str, Callable[[ConfigDict], Raw]] = {
    "phantom": _phantom,
    "phantom_b": _phantom,
    **dict.fromkeys(LAYOUTS, _public),
    "own": _own,
}


def _unlabelled_elsewhere(config: ConfigDict) -> dict[str, Source]:
    """Slices of the data sets in `config.unlabelled_from`, their labels left unread: those of a new microscope.

    Slices that have no label come first: a data set's labelled slices, on which it is scored, are only taken where
    there are no others.
    """
    sources = {}
    for name in filter(None, config.unlabelled_from.split("+")):
        if name not in DATASETS or name == config.name:
            raise InputError(
                f"data.unlabelled_from={config.unlabelled_from} names {name}; expected other data sets than "
                f"{config.name}, joined by +, of {', '.join(DATASETS)}."
            )
        own = config.copy_and_resolve_references()
        own.unlock()
        own.update({"name": name, "unlabelled_from": ""})
        others = {split: source for split, source in DATASETS[name](own).sources.items() if split != "test"}
        free = {split: source for split, source in others.items() if source.rule is None} or others
        sources |= {f"{name}/{split}": Source(source.image, source.zs) for split, source in free.items()}
    return sources


# ---------------------------------------------------------------------------------------------------------------------
# Blocks in z
# ---------------------------------------------------------------------------------------------------------------------


def _blocks(config: ConfigDict, raw: Raw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(training slices, validation slices) of the training volume, neighbours kept apart."""
    source = raw.sources["train"]
    chosen = config.validation_slices
    if chosen and chosen != "none":
        validation = _block(chosen, "data.validation_slices", source)
        if not any(z in source.rule.index for z in validation):
            raise InputError(
                f"data.validation_slices={chosen} holds no labelled slice; expected at least one, or none."
            )
    elif chosen == "none" or (raw.validation == "auto" and config.train_slices):
        validation = ()
    elif raw.validation == "auto":
        validation = _last_fifth(source)
    else:
        validation = _default(raw.validation, source)

    if config.train_slices:
        train = _block(config.train_slices, "data.train_slices", source)
        if set(train) & set(validation):
            raise InputError(
                f"data.train_slices={config.train_slices} overlaps the validation slices {validation[0]}:"
                f"{validation[-1] + 1}; expected blocks apart: change it, or set data.validation_slices (or none)."
            )
    else:
        train = _default(raw.train, source)
        if validation and (chosen or raw.validation == "auto"):
            train = tuple(z for z in train if not validation[0] - GAP <= z <= validation[-1] + GAP)
            if not train:
                raise InputError(
                    f"data.validation_slices={chosen} leaves no slice for training; choose a smaller block."
                )
    if not validation:
        print(f"{config.name}: no validation block, all labels can train; data.validation_slices=a:b would spare some.")
    return train, validation


def _block(text: str, key: str, source: Source) -> tuple[int, ...]:
    """The slices a..b-1 of 'a:b'."""
    start, colon, stop = (field.strip() for field in text.partition(":"))
    if not (start.isdecimal() and colon and stop.isdecimal()):
        raise InputError(f"{key}={text} is not understood; expected a z range such as 0:128 (128 not included).")
    first, last = source.zs[0], source.zs[-1] + 1
    if not first <= int(start) < int(stop) <= last:
        raise InputError(
            f"{key}={text} does not fit {source.image.path}; expected a range within {first}:{last}, its start first."
        )
    return tuple(z for z in source.zs if int(start) <= z < int(stop))


def _default(text: str, source: Source) -> tuple[int, ...]:
    """A data set's own range, as far as the volume reaches."""
    if text == "none":
        return ()
    start, _, stop = text.partition(":")
    return tuple(z for z in source.zs if int(start or 0) <= z < (int(stop) if stop else math.inf))


def _last_fifth(source: Source) -> tuple[int, ...]:
    """A block from the last fifth of the labelled slices; empty where labels are too few to spare any.

    Labels are precious in a person's own volume: with fewer than 8, or where the gap would cost half of them, all of
    them train.
    """
    labelled = sorted(source.rule.index)
    first, last = labelled[-max(1, len(labelled) // 5)], labelled[-1]
    left = sum(z < first - GAP for z in labelled)
    if len(labelled) < 8 or 2 * left < len(labelled):
        return ()
    return tuple(range(first, last + 1))


# ---------------------------------------------------------------------------------------------------------------------
# Pixel size
# ---------------------------------------------------------------------------------------------------------------------


def _training_pixel(config: ConfigDict, sources: dict[str, Source]) -> tuple[float, float] | None:
    """(y, x) nm of training; None where no voxel size is known.

    It is `config.pixel_nm`; where the training volume has larger pixels and `config.upsample` is off, theirs.
    """
    if config.pixel_nm != 0 and not PIXEL_NM[0] <= config.pixel_nm <= PIXEL_NM[1]:
        raise InputError(
            f"data.pixel_nm={config.pixel_nm} is not a pixel size of electron microscopy; expected {PIXEL_NM[0]:g} to "
            f"{PIXEL_NM[1]:g} nm, or 0 for that of the volume."
        )
    unknown = [name for name, source in sources.items() if source.image.voxel_nm is None]
    if len(unknown) == len(sources):
        return None
    if unknown:
        key = "data.test_voxel_nm" if unknown[0] == "test" else "data.voxel_nm"
        raise InputError(
            f"{sources[unknown[0]].image.path} does not state its voxel size, which is needed to bring all volumes to "
            f"one pixel size; set {key}=z,y,x in nm, such as 30,8,8."
        )
    if config.upsample and config.pixel_nm:
        return config.pixel_nm, config.pixel_nm
    return tuple(max(size, config.pixel_nm) for size in sources["train"].image.voxel_nm[1:])
