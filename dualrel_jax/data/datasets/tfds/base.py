"""The base class of the TFDS builders; each of them is a class with a docstring."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from dualrel_jax.data.datasets.labels import Source
from dualrel_jax.data.datasets.public import LAYOUTS, find_folder
from dualrel_jax.data.io.volume import intensity_range, to_uint8


class SliceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Slices of an electron microscopy volume, in order of z, with masks of their mitochondria.

    The files come from `--manual_dir`, which is the folder of the data set or the one above it, and else from where
    `--mode=download` puts them. Splits are those of the data set's authors; blocks for validation are cut later.

    Features: `image` uint8 y x 1; `label` uint8 y x 1 in {0, 1, 255 = ignore}, empty where `has_label` is False; `z`
    slice number in its volume.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "--manual_dir is the folder that --mode=download fills (data.dir)."

    def _info(self) -> tfds.core.DatasetInfo:
        slice_yx1 = tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png")
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {"image": slice_yx1, "label": slice_yx1, "z": np.int32, "has_label": np.bool_}
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        sources = LAYOUTS[self.name].read(self._folder(dl_manager))
        return {split: self._generate_examples(source) for split, source in sources.items()}

    def _folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        try:
            folder = Path(dl_manager.manual_dir)
        except AssertionError:  # not set, and no folder at its default place
            return find_folder(self.name, "data")
        return folder / self.name if (folder / self.name).exists() else folder

    def _generate_examples(self, source: Source) -> Iterator[tuple[int, dict]]:
        as_it_is = source.image.dtype == np.uint8
        low_high = None if as_it_is else intensity_range(source.image)
        for z in source.zs:
            image = source.image[z] if as_it_is else to_uint8(source.image[z], low_high)
            has_label = source.rule is not None and z in source.rule.index
            label = source.rule.decode(source.label[source.rule.index[z]]) if has_label else np.zeros_like(image)
            yield z, {"image": image[..., None], "label": label[..., None], "z": z, "has_label": has_label}
