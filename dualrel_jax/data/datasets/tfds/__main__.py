"""`tfds build` for one of our data sets, without the packages that the `tfds` command demands beside it.

TFDS 4.9's command line imports apache_beam and mlcroissant whatever it is asked to do
(https://github.com/tensorflow/datasets/issues/5463); building a data set needs neither.
"""

import argparse
import importlib
import sys
from pathlib import Path

from dualrel_jax.data.datasets.public import LAYOUTS
from dualrel_jax.errors import InputError


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m dualrel_jax.data.datasets.tfds", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=LAYOUTS, help="data set to build")
    parser.add_argument("--manual_dir", default="data", help="folder of the downloaded files (default: data)")
    parser.add_argument("--data_dir", help="where TFDS keeps its data sets (default: its own default)")
    parser.add_argument(
        "--file_format",
        default="array_record",
        choices=("array_record", "tfrecord"),
        help="array_record: slices are read one by one (default); tfrecord: tfds.load reads it too, from start to end",
    )
    args = parser.parse_args(argv)
    try:
        build(args.name, args.manual_dir, args.data_dir, args.file_format)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def build(name: str, manual_dir: str, data_dir: str | None = None, file_format: str = "array_record") -> None:
    """Builds data set `name` from the files in `manual_dir` (or `manual_dir/name`) into `data_dir`.

    Raises:
      InputError: files missing or unusable.
    """
    if not Path(manual_dir).is_dir():
        raise InputError(f"--manual_dir={manual_dir} does not exist; expected the folder that --mode=download fills.")
    import tensorflow_datasets as tfds

    importlib.import_module(f"dualrel_jax.data.datasets.tfds.{name}")  # registers the builder
    builder = tfds.builder_cls(name)(data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))


if __name__ == "__main__":
    main()
