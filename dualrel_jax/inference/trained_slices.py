"""Which of the slices to be scored a run was trained on: their score says nothing about other slices."""

from collections.abc import Sequence

from dualrel_jax.data.datasets.own import split_paths
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.box_path import file_and_box
from dualrel_jax.data.io.fingerprint import checksum
from dualrel_jax.inference.run import Run
from dualrel_jax.utils.boxes import Box
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.ranges import format_runs


def trained_on(run: Run, parts: Sequence[Part]) -> list[tuple[Part, list[int]]]:
    """The parts among `parts` of which labelled slices were trained on with their labels, and these slices.

    Slices are known by the path of their volume, or, where that was copied or moved, by the checksums of run.json. A
    validation part is apart from what was trained on, if only beside it.
    """
    path = run.workdir / "partition.json"
    if not path.is_file():
        return []
    labelled, checksums = Partition.load(path).labelled, _checksums(run)
    learned = [(image, z) for name, z in labelled if (image := _image_of(run, name))]
    found = []
    for part in parts:
        if part.name.endswith("/validation"):
            continue
        scored = file_and_box(part.image.container or part.image.path)
        factor = part.image.level.factors[0] if part.image.level else 1.0  # boxes count voxels of level 0
        starts = [(image[1][0].start - scored[1][0].start, z) for image, z in learned if _share_voxels(image, scored)]
        here = {z + round(start / factor) for start, z in starts}
        zs = [z for z in part.labelled_zs if z in here or (checksums and checksum(part.view[z]) in checksums)]
        if zs:
            found.append((part, zs))
    return found


def explain(found: Sequence[tuple[Part, list[int]]]) -> list[str]:
    """A sentence for each entry of `trained_on`."""
    sentences = []
    for part, zs in found:
        was, count = "was" if len(zs) == 1 else "were", len(part.labelled_zs)
        share = "" if len(zs) == count else f" ({len(zs)} of the {count} slices scored)"
        sentences.append(
            f"z = {format_runs(zs, 8)} of {part.image.path} {was} trained on{share}: the score says nothing "
            "about other slices; score labelled slices that were not."
        )
    return sentences


def _share_voxels(image: tuple[str, Box], other: tuple[str, Box]) -> bool:
    """Whether two boxes are of one file and overlap along y and x."""
    (file, (_, *yx)), (other_file, (_, *other_yx)) = image, other
    overlap = (a.start < b.stop and b.start < a.stop for a, b in zip(yx, other_yx, strict=True))
    return file == other_file and all(overlap)


def _image_of(run: Run, name: str) -> tuple[str, Box] | None:
    """The volume of a part of the training, by `file_and_box`; None for that of a public data set."""
    if run.config.data.name != "own":
        return None
    place, images = name.removeprefix("own/labelled"), split_paths(run.config.data.image)
    i = 0 if name.endswith("/train") else int(place) - 1 if place.isdecimal() else len(images)
    return file_and_box(images[i]) if i < len(images) else None


def _checksums(run: Run) -> set[int]:
    """Those of the images of the labelled slices; none in runs of earlier versions."""
    recorded = read_json(run.workdir / "run.json", {}, "copy it from where the run was trained").get("slice_checksums")
    return {image for slices in (recorded or {}).values() for image, _ in slices.values()}
