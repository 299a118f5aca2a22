"""The section of a report about the last segmented volume: what it is, its mask, and its instances."""

from collections.abc import Iterator
from pathlib import Path

from dualrel_jax.data.io.outputs import last_picture
from dualrel_jax.inference.prediction_record import FRACTION, THRESHOLD
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.visualization.report_page import Figure, Section, embed_picture


def volume_section(workdir: Path) -> Section | None:
    """The last results of `predict` and `instances` in the work folder; None where there are none."""
    mask, instances = (last_picture(workdir / mode) for mode in ("prediction", "instances"))
    rows, figures = [], []
    if mask:
        rows += _facts(read_json(mask.with_suffix(".json"), {}, "write it again by dualrel predict"))
        alt = "Outlines of predicted mitochondria (orange) over EM"
        figures.append(embed_picture(mask, alt, "Prediction", " on four slices of the volume; orange: outlines."))
    if instances:
        sizes = dict.fromkeys(("total_um3", "median_um3"), (float, type(None)))
        fields = {"instances": int, "cut_by_border": int, **sizes}
        numbers = read_json(instances.with_suffix(".json"), fields, "write it again by dualrel instances")
        if numbers.get("total_um3"):
            rows += _numbered(numbers)
            figures.append(_instances_figure(instances, numbers))
    return Section("Segmented volume", rows=rows, figures=figures, style="wide") if figures else None


def _facts(record: dict) -> Iterator[tuple[str, str]]:
    """What the record of a mask says; that of an earlier version does not say the fraction."""
    if "volume" in record:
        yield "Volume", str(record["volume"])
    if "voxel size" in record:
        yield "Voxel size (z, y, x)", _sizes(record["voxel size"])
    if region := record.get("config.predict.region"):
        yield "Region (z, y, x)", str(region)
    if isinstance(threshold := record.get(THRESHOLD), int | float):
        yield "Threshold of the mask", f"{threshold:.3g}"
    if isinstance(fraction := record.get(FRACTION), int | float):
        yield "Mitochondria", f"{fraction:.1%} of the voxels"


def _numbered(numbers: dict) -> Iterator[tuple[str, str]]:
    threshold = (numbers.get("settings") or {}).get("threshold")
    if "input" in numbers and isinstance(threshold, int | float):
        yield "Numbered", f"{numbers['input']}, above a probability of {threshold:.3g}"


def _instances_figure(picture: Path, numbers: dict) -> Figure:
    caption = (
        f", {numbers['cut_by_border']} of them cut by the border of the volume; total volume "
        f"{numbers['total_um3']:.4g} µm³, median {numbers['median_um3']:.3g} µm³. "
        "The numbers are the ids of instances.csv."
    )
    alt = "Numbered mitochondria in four slices, each in its own colour"
    return embed_picture(picture, alt, f"{numbers['instances']} mitochondria", caption)


def _sizes(voxel_nm: list | None) -> str:
    if not voxel_nm:
        return "unknown"
    return f"{' × '.join('?' if size is None else f'{size:g}' for size in voxel_nm)} nm"
