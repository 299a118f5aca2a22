"""The data sets by name: training, validation and test slices as 8-bit images and labels at one pixel size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.labels import LabelRule, Source, fully_labelled
from dualrel_jax.data.datasets.own import read_own, read_test
from dualrel_jax.data.datasets.public import LAYOUTS, read_layout
from dualrel_jax.data.datasets.regions import regions
from dualrel_jax.data.io.resample import resample_image, resample_label, resample_window
from dualrel_jax.data.io.volume import Volume, intensity_range, to_uint8
from dualrel_jax.data.io.voxel import check_likely
from dualrel_jax.data.phantom import phantom
from dualrel_jax.errors import InputError


@dataclass(frozen=True)
class Part:
    """Slices of one volume, or of a window of it, read when asked for.

    Attributes:
      name: unique in a data set, such as "lucchi/train".
      image: z y x, native: the whole volume.
      label: that of the whole volume; None without labels.
      zs: slices of `image` that belong to the part.
      labelled_zs: those with a label.
      rule: how to read `label`.
      pixel_nm: (y, x) of training, nm; None where no voxel size is known: slices stay as they are.
      range: (low, high) intensity of `image` that becomes 0 and 255.
      window: (y, x) of the part in every slice, pixels of `image`; None: all of it.
    """

    name: str
    image: Volume
    label: Volume | None
    zs: tuple[int, ...]
    labelled_zs: tuple[int, ...]
    rule: LabelRule | None
    pixel_nm: tuple[float, float] | None
    range: tuple[float, float]
    window: tuple[slice, slice] | None = None

    @property
    def view(self) -> Volume:
        """`image` without what lies beside the window; slices are counted as in `image`."""
        return self.image.crop(slice(None), *self.window) if self.window else self.image

    @property
    def corner(self) -> tuple[int, int]:
        """First pixel (y, x) of the window."""
        return (self.window[0].start, self.window[1].start) if self.window else (0, 0)

    @property
    def shape_at_training(self) -> tuple[int, int]:
        """(y, x) of a slice at the training pixel size."""
        return training_shape(self.view, self.pixel_nm)

    def image_at(self, z: int) -> np.ndarray:
        """Slice z: uint8 (y, x) at the training pixel size."""
        native = to_uint8(self.view[z], self.range, f"{self.image.path}, slice {z}")
        return resample_image(native, self.shape_at_training)

    def image_window(self, z: int, window: tuple[slice, slice]) -> np.ndarray:
        """`image_at(z)[window]`, of which only what the window needs is read."""
        view, name = self.view, f"{self.image.path}, slice {z}"
        shapes = view.shape[1:], self.shape_at_training
        return resample_window(lambda *part: to_uint8(view[z, *part], self.range, name), shapes, window)

    def label_at(self, z: int) -> np.ndarray:
        """Label of slice z, one of `labelled_zs`: uint8 (y, x) in {0, 1, 255 = ignore} at the training pixel size."""
        return resample_label(self.native_label_at(z), self.shape_at_training)

    def native_label_at(self, z: int) -> np.ndarray:
        """Label of slice z, one of `labelled_zs`: uint8 (y, x) in {0, 1, 255 = ignore} at the volume's pixel size."""
        if z not in self.rule.index:
            raise InputError(
                f"Slice {z} of {self.image.path} was trained with a label, and {self.label.path} has none of it now; "
                "put its label back, or train in a new folder."
            )
        return self.rule.decode(self.label[self.rule.index[z], *(self.window or ())])

    def whole_label_at(self, z: int) -> np.ndarray:
        """The same for the whole slice of `image`; what lies beside the window is ignored."""
        label = np.full(self.image.shape[1:], IGNORE, np.uint8)
        label[self.window or ()] = self.native_label_at(z)
        return label


def training_shape(volume: Volume, pixel_nm: tuple[float, float] | None) -> tuple[int, int]:
    """Shape y x of the volume's slices at the training pixel size."""
    y, x = volume.shape[1:]
    if pixel_nm is None or volume.voxel_nm is None:
        return y, x
    return max(1, round(y * volume.voxel_nm[1] / pixel_nm[0])), max(1, round(x * volume.voxel_nm[2] / pixel_nm[1]))


@dataclass(frozen=True)
class Dataset:
    """Parts for training (the first is the one cut into regions), validation and test: of the last two one or none."""

    name: str
    train: tuple[Part, ...]
    validation: tuple[Part, ...]
    test: tuple[Part, ...]


@dataclass(frozen=True)
class Raw:
    """What a data set's files hold: "train", optionally "test", and further volumes, labelled or not, by any name.

    `train` and `validation` are the default z ranges of the training volume: "a:b", "" for all of it, "none"; a
    `validation` of "auto" leaves it to `regions`.
    """

    sources: dict[str, Source]
    train: str
    validation: str


def load_dataset(config: ConfigDict) -> Dataset:
    """Opens the volumes of `config.name` and cuts them into parts; `config` has the fields of `config.data`.

    Raises:
      InputError: missing or unusable files, bad ranges, or a voxel size that is needed but unknown.
    """
    raw = DATASETS[config.name](config)
    sources = dict(raw.sources)
    if config.test_image or config.test_label:
        sources["test"] = read_test(config)
    sources.update(_unlabelled_elsewhere(config))
    for split, source in sources.items():
        check_likely(source.image.voxel_nm, source.image.path, f"data.{'test_' if split == 'test' else ''}voxel_nm")
    train, validation = regions(config, raw.sources["train"], raw.train, raw.validation)
    pixel_nm = _training_pixel(config, sources)
    ranges = {split: intensity_range(source.image, source.zs) for split, source in sources.items()}
    for split, (low, high) in ranges.items():
        if low == high and sources[split].rule is None:
            raise InputError(
                f"{sources[split].image.path} holds nothing but {low:g} in the places looked at; expected tissue: name "
                "a box of it that holds some, such as volume.zarr[0:99,5000:9000,5000:9000]."
            )

    def part(name: str, split: str, zs: Sequence[int], window: tuple[slice, slice] | None = None) -> Part:
        # One range of greys for all regions of a volume.
        return _part(
            f"{config.name}/{name}", sources[split], zs, pixel_nm=pixel_nm, grey_range=ranges[split], window=window
        )

    further = [part(split, split, source.zs) for split, source in sources.items() if split not in ("train", "test")]
    return Dataset(
        name=config.name,
        train=(part("train", "train", *train), *further),
        validation=(part("validation", "train", *validation),) if validation.zs else (),
        test=(part("test", "test", sources["test"].zs),) if "test" in sources else (),
    )


def load_test(config: ConfigDict, pixel_nm: tuple[float, float] | None) -> Part:
    """The volume of `config.test_image` as `load_dataset` has it, without the files of the training.

    Args:
      pixel_nm: (y, x) of the training; None where it was not known.

    Raises:
      InputError: missing or unusable files, or a voxel size that is needed but unknown.
    """
    source = read_test(config)
    check_likely(source.image.voxel_nm, source.image.path, "data.test_voxel_nm")
    if pixel_nm is not None and source.image.voxel_nm is None:
        raise _without_voxel(source.image, "data.test_voxel_nm")
    grey_range = intensity_range(source.image, source.zs)
    return _part(f"{config.name}/test", source, source.zs, pixel_nm=pixel_nm, grey_range=grey_range)


def _part(
    name: str,
    source: Source,
    zs: Sequence[int],
    *,
    pixel_nm: tuple[float, float] | None,
    grey_range: tuple[float, float],
    window: tuple[slice, slice] | None = None,
) -> Part:
    whole = window is None or tuple(axis.stop - axis.start for axis in window) == source.image.shape[1:]
    return Part(
        name=name,
        image=source.image,
        label=source.label,
        zs=tuple(zs),
        labelled_zs=tuple(z for z in zs if source.rule and z in source.rule.index),
        rule=source.rule,
        pixel_nm=pixel_nm,
        range=grey_range,
        window=None if whole else window,
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
    else:
        sources = read_layout(config.name, config.dir)
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
    for name in filter(None, map(str.strip, config.unlabelled_from.split("+"))):
        if name == config.name:
            raise InputError(
                f"data.unlabelled_from={config.unlabelled_from} names {name}; expected other data sets than that of "
                "data.name."
            )
        own = config_lib.changed(config, {"name": name, "unlabelled_from": ""})
        others = {split: source for split, source in DATASETS[name](own).sources.items() if split != "test"}
        free = {split: source for split, source in others.items() if source.rule is None} or others
        sources |= {f"{name}/{split}": Source(source.image, source.zs) for split, source in free.items()}
    return sources


# ---------------------------------------------------------------------------------------------------------------------
# Pixel size
# ---------------------------------------------------------------------------------------------------------------------


def _training_pixel(config: ConfigDict, sources: dict[str, Source]) -> tuple[float, float] | None:
    """(y, x) nm of training; None where no voxel size is known.

    It is `config.pixel_nm`; where the training volume has larger pixels and `config.upsample` is off, theirs.
    """
    unknown = [name for name, source in sources.items() if source.image.voxel_nm is None]
    if len(unknown) == len(sources):
        return None
    if unknown:
        key = "data.test_voxel_nm" if unknown[0] == "test" else "data.voxel_nm"
        raise _without_voxel(sources[unknown[0]].image, key)
    if config.upsample and config.pixel_nm:
        return config.pixel_nm, config.pixel_nm
    return tuple(max(size, config.pixel_nm) for size in sources["train"].image.voxel_nm[1:])


def _without_voxel(volume: Volume, key: str) -> InputError:
    return InputError(
        f"{volume.path} does not state its voxel size, which is needed to bring all volumes to one pixel size; set "
        f"{key}=z,y,x in nm, such as 30,8,8."
    )
