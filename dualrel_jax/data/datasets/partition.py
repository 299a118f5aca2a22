"""Which training slices keep their labels: a fraction or a count of them, uniform in z or drawn by seed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json

if TYPE_CHECKING:
    from dualrel_jax.data.datasets.registry import Part

Slice = tuple[str, int]  # (name of the part, z)


@dataclass(frozen=True)
class Partition:
    """Training slices as (part name, z): those whose labels are used and those used without."""

    labelled: tuple[Slice, ...]
    unlabelled: tuple[Slice, ...]

    def save(self, path: str | Path) -> None:
        """Writes JSON, one slice a line, that `load` and `data.partition_file` read back."""
        groups = (
            f'  "{key}": [\n' + ",\n".join(f"    {json.dumps(entry)}" for entry in entries) + "\n  ]"
            for key, entries in asdict(self).items()
        )
        write_text(Path(path), "{\n" + ",\n".join(groups) + "\n}\n")

    def describe(self, unlabelled_too: bool) -> str:
        """How many slices train with their labels and how many without, of a method that learns from these or not."""
        labelled, unlabelled = len(self.labelled), len(self.unlabelled)
        if unlabelled_too and set(self.labelled) <= set(self.unlabelled):
            return f"{labelled} labelled slice{'s' * (labelled != 1)}; all {unlabelled} also train without labels"
        train = "slice trains with its label" if labelled == 1 else "slices train with their labels"
        return f"{labelled} {train}, {unlabelled if unlabelled_too else 'none'} without"

    def difference(self, other: "Partition") -> str:
        """The first slice that `other` uses otherwise, in words; empty if none."""
        for key in ("labelled", "unlabelled"):
            here, there = set(getattr(self, key)), set(getattr(other, key))
            for name, z in sorted(here ^ there):
                return f"slice {z} of {name} is {'no longer' if (name, z) in here else 'now'} {key}"
        return ""

    @staticmethod
    def load(path: str | Path) -> "Partition":
        """Reads what `save` wrote.

        Raises:
          InputError: no such file, or not a partition.
        """
        advice = (
            'it is not a partition, which holds "labelled" and "unlabelled", each a list of ["part", z]: take the '
            "partition.json of another run, or restore this one from a backup"
        )
        content = read_json(path, {"labelled": list, "unlabelled": list}, advice)
        try:
            groups = {key: tuple((str(part), int(z)) for part, z in content[key]) for key in ("labelled", "unlabelled")}
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} has an entry that names no slice ({error}); {advice}.") from error
        return Partition(**groups)


def make_partition(parts: Sequence["Part"], config: ConfigDict) -> Partition:
    """Chooses labelled slices among the training parts by `config.labelled` and `config.partition`.

    With M slices that have a label, `1/d` keeps floor(M / d) of them. Every other training slice is unlabelled; with
    `all` (or all M), every slice is used both ways.

    Raises:
      InputError: a fraction that selects no slice, or a partition file of other data.
    """
    capable = [(part.name, z) for part in parts for z in part.labelled_zs]
    slices = [(part.name, z) for part in parts for z in part.zs]
    if config.partition_file:
        partition = Partition.load(config.partition_file)
        _check_against_data(partition, capable, slices, config.partition_file)
        return partition
    if not capable:
        raise InputError(
            f"data.name={config.name} has no labelled slice for training; check data.label, data.labelled_slices and "
            "data.train_region."
        )
    total = len(capable)
    count = labelled_count(config.labelled, total)
    if config.partition == "uniform":
        # The centre of each of `count` equal blocks: neighbours are evenly far apart, and the ends are not wasted.
        chosen = [(2 * i + 1) * total // (2 * count) for i in range(count)]
    else:
        chosen = np.random.default_rng(config.partition_seed).choice(total, count, replace=False)
    labelled = tuple(capable[i] for i in sorted(chosen))
    kept = set(labelled) if count < total else set()
    return Partition(labelled, tuple(entry for entry in slices if entry not in kept))


def labelled_count(text: str, total: int) -> int:
    """Number of labelled slices among `total` for `1/32` (floor), `all`, or a count such as `5`.

    Raises:
      InputError: none, or more than there are.
    """
    if text.strip() == "all":
        return total
    numerator, slash, denominator = text.partition("/")
    count = total * int(numerator) // int(denominator) if slash else int(numerator)
    if count == 0:
        raise InputError(
            f"data.labelled={text} selects none of the {total} labelled training slices; the smallest usable fraction "
            f"is 1/{total}, the smallest count 1."
        )
    if count > total:
        raise InputError(f"data.labelled={text} is more than the {total} labelled training slices; use all for all.")
    return count


def _check_against_data(partition: Partition, capable: list[Slice], slices: list[Slice], path: str) -> None:
    if not partition.labelled:
        raise InputError(f"data.partition_file={path} names no labelled slice; expected at least one.")
    for key, known in (("labelled", set(capable)), ("unlabelled", set(slices))):
        seen: set[Slice] = set()
        for name, z in getattr(partition, key):
            if (name, z) in seen:
                raise InputError(f"data.partition_file={path} names slice {z} of {name} twice among the {key} ones.")
            if (name, z) not in known:
                raise InputError(
                    f"data.partition_file={path} names slice {z} of {name} as {key}, which this data does not have "
                    "for training; use the data settings of the run it comes from, or leave data.partition_file empty."
                )
            seen.add((name, z))
