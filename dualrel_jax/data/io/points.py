"""Points that a person classified by clicks: read from tables of several programs, and written for filling in."""

import csv
import dataclasses
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

DRAWN = ("random", "probability")  # in the column `drawn`: how chance chose the places
COLUMNS = ("z", "y", "x", "class", "drawn")
_CLASSES = {
    **dict.fromkeys(("1", "1.0", "mitochondrion", "mitochondria", "mito", "m", "true", "foreground"), True),
    **dict.fromkeys(("0", "0.0", "background", "other", "b", "no", "false"), False),
}
_AXES = (  # columns of z, y, x, and the number of the first slice
    (("z", "y", "x"), 0),
    (("axis-0", "axis-1", "axis-2"), 0),  # napari
    (("slice", "y", "x"), 1),  # Fiji
    (("frame", "y", "x"), 1),  # Fiji, of slices that are stored as time points
)
_CLASS_COLUMNS = ("class", "label", "type", "counter")
_EXPECTED = (
    "a table with the columns z,y,x,class (voxels from 0; class 1 or mitochondrion, 0 or background), a points layer "
    "saved by napari, Fiji's table of a multi-point selection, or an annotation of WEBKNOSSOS (.nml)"
)


@dataclass(frozen=True)
class Points:
    """Classified points of a volume.

    Attributes:
        zyx: voxels, n 3, int.
        is_mitochondrion: n, bool.
        drawn: one of DRAWN; empty where a person chose the places.
    """

    path: str
    zyx: np.ndarray
    is_mitochondrion: np.ndarray
    drawn: str = ""
    without_class: int = 0  # left out

    def __len__(self) -> int:
        return len(self.zyx)

    def describe(self) -> str:
        count = int(self.is_mitochondrion.sum())
        text = f"{self.path}: {len(self)} points, {count} on mitochondria and {len(self) - count} on background"
        return text + (f" ({self.without_class} more have no class)" if self.without_class else "")

    def inside(self, region: Sequence[slice]) -> "Points":
        """Those in a region z y x; InputError if a class has none there."""
        here = np.all([(part.start <= at) & (at < part.stop) for part, at in zip(region, self.zyx.T, strict=True)], 0)
        points = dataclasses.replace(self, zyx=self.zyx[here], is_mitochondrion=self.is_mitochondrion[here])
        points.check_both_classes()
        return points

    def check_both_classes(self) -> None:
        """InputError unless there are points on mitochondria and on background."""
        for is_mitochondrion, name in ((True, "a mitochondrion"), (False, "background")):
            if not (self.is_mitochondrion == is_mitochondrion).any():
                raise InputError(
                    f"{self.path} has no point on {name} among {len(self)} classified points of what is segmented or "
                    "learned; expected some of both: class 1 or mitochondrion, and 0 or background."
                )


def read_points(path: str | Path, shape: tuple[int, int, int]) -> Points:
    """The classified points of a volume of `shape` (z y x); those whose class is left empty are left out.

    Raises:
        InputError: no such file, another format, an unknown class, a point outside the volume, one voxel of both
            classes, or a class without a point.
    """
    path = Path(path)
    rows = _nml_rows(path) if path.suffix.lower() == ".nml" else _csv_rows(path)
    kept = [(where, row) for where, row in rows if row["class"]]
    _check_scale(path, kept, shape)
    zyx = np.array([_voxel(row, where, shape) for where, row in kept]).reshape(-1, 3)
    classes = np.array([_class(row["class"], where) for where, row in kept], bool)
    _check_contradictions(zyx, classes, [where for where, _ in kept])
    drawn = {row.get("drawn", "") for _, row in kept}
    drawn = drawn.pop() if len(drawn) == 1 and drawn <= set(DRAWN) else ""
    points = Points(str(path), zyx, classes, drawn, len(rows) - len(kept))
    points.check_both_classes()
    return points


def table_of_places(zyx: np.ndarray, drawn: str) -> str:
    """A table of places, voxels n 3, drawn as DRAWN has it, whose class is left empty for a person to fill in."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([*map(int, place), "", drawn] for place in zyx)
    return text.getvalue()


def draw_discs(points: Points, z: int, shape_yx: tuple[int, int], radius_px: float, ignore: int) -> np.ndarray:
    """Slice z of the labels, y x uint8: a disc at each point, 1 or 0, and `ignore` elsewhere.

    Where discs of both classes overlap, the nearer point counts, and `ignore` halfway.
    """
    here = points.zyx[:, 0] == z
    reach = int(radius_px)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = dy**2 + dx**2 <= radius_px**2
    offsets = np.stack([dy[inside], dx[inside]])
    y, x = points.zyx[here, 1:, None].transpose(1, 0, 2) + offsets[:, None]  # point, pixel of its disc
    classes, squared = (
        np.broadcast_to(values, y.shape)
        for values in (points.is_mitochondrion[here, None].astype(int), (offsets**2).sum(axis=0))
    )
    kept = (0 <= y) & (y < shape_yx[0]) & (0 <= x) & (x < shape_yx[1])
    pixels, pixel = np.unique(y[kept] * shape_yx[1] + x[kept], return_inverse=True)
    nearest = np.full((2, len(pixels)), np.inf)  # squared distance to the points of each class
    np.minimum.at(nearest, (classes[kept], pixel), squared[kept])
    background, mitochondrion = nearest
    label = np.full(shape_yx, ignore, np.uint8)
    label.flat[pixels] = np.where(mitochondrion == background, ignore, mitochondrion < background)
    return label


Row = Mapping[str, str]
_CORNER = 0.05  # of a slice's sides: points of a whole slice reach beyond


def _csv_rows(path: Path) -> list[tuple[str, Row]]:
    """(where, {"z", "y", "x", "class", "drawn"}) of each line, z from 0."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else "it is not text"
        raise InputError(f"{path} cannot be read ({reason}); expected {_EXPECTED}.") from error
    lines = text.splitlines()
    head = lines[0] if lines else ""
    delimiter = max(",;\t", key=head.count)
    table = list(csv.reader(lines, delimiter=delimiter))
    names = [name.strip().lower() for name in table[0]] if table else []
    entries = [
        (number, dict(zip(names, (value.strip() for value in values), strict=False)))
        for number, values in enumerate(table[1:], start=2)
        if any(value.strip() for value in values)
    ]
    axes, first = next(((axes, first) for axes, first in _AXES if set(axes) <= set(names)), ((), 0))
    if not axes:
        raise InputError(f"{path} has the columns {', '.join(names) or 'none'}; expected {_EXPECTED}.")
    several = {axis for axis in ("slice", "frame") if len({entry.get(axis) for _, entry in entries}) > 1}
    if axes[0] == "slice" and several == {"frame"}:
        axes = ("frame", *axes[1:])
    column = _class_column([entry for _, entry in entries], names)
    if column is None:
        raise InputError(f"{path} has no column for the class of a point; add one named class, with 1 or 0 in it.")
    rows = []
    for number, entry in entries:
        place = _shifted({axis: entry.get(name, "") for axis, name in zip("zyx", axes, strict=True)}, first)
        rows.append(
            (f"{path}, line {number}", {**place, "class": entry.get(column, ""), "drawn": entry.get("drawn", "")})
        )
    return rows


def _class_column(entries: Sequence[Row], names: Sequence[str]) -> str | None:
    """The column of classes: not Fiji's labels, which name the image, but the counter beside them."""
    columns = [name for name in _CLASS_COLUMNS if name in names]
    with_classes = (name for name in columns if any(entry.get(name, "").lower() in _CLASSES for entry in entries))
    return "class" if "class" in names else next(with_classes, columns[-1] if columns else None)


def _shifted(place: dict[str, str], first: int) -> dict[str, str]:
    """The place with slices that count from 0."""
    try:
        return {**place, "z": str(float(place["z"]) - first)} if first else place
    except ValueError:
        return place


def _nml_rows(path: Path) -> list[tuple[str, Row]]:
    """The nodes of each tree; its name is their class."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected {_EXPECTED}.") from error
    rows = []
    for tree in root.iter("thing"):
        for node in tree.iter("node"):
            place = {axis: node.get(axis, "") for axis in "zyx"}
            rows.append((f"{path}, node {node.get('id')}", {**place, "class": tree.get("name", "")}))
    return rows


def _check_scale(path: Path, rows: Sequence[tuple[str, Row]], shape: Sequence[int]) -> None:
    """InputError for places in micrometres: fractions that all lie in one corner of the slices."""
    try:
        yx = np.array([[float(row["y"]), float(row["x"])] for _, row in rows])
    except ValueError:
        return  # `_voxel` says which
    if len(yx) > 2 and (yx != np.rint(yx)).any() and (yx.max(axis=0) < _CORNER * np.array(shape[1:])).all():
        raise InputError(
            f"{path}: all points lie within y {yx[:, 0].max():g} and x {yx[:, 1].max():g} of slices of "
            f"{format_shape(shape[1:])} pixels, in fractions; expected voxels, and these seem micrometres: in Fiji "
            "remove the scale first (Analyze > Set Scale) and measure again."
        )


def _check_contradictions(zyx: np.ndarray, classes: np.ndarray, places: Sequence[str]) -> None:
    """InputError where one voxel has points of both classes."""
    seen: dict[tuple[int, ...], int] = {}
    for i, voxel in enumerate(map(tuple, zyx.tolist())):
        first = seen.setdefault(voxel, i)
        if classes[first] != classes[i]:
            raise InputError(
                f"{places[i]} has the voxel {', '.join(map(str, voxel))} (z, y, x), which {places[first]} has with the "
                "other class; expected one class for a voxel: remove one of them."
            )


def _voxel(row: Row, where: str, shape: Sequence[int]) -> tuple[int, ...]:
    try:
        place = tuple(float(row[axis]) for axis in "zyx")
        voxel = tuple(int(np.rint(value)) for value in place)
    except (ValueError, OverflowError):
        got = ", ".join(row[axis] or "nothing" for axis in "zyx")
        raise InputError(f"{where} has the place {got} (z, y, x); expected three numbers, in voxels.") from None
    if not all(0 <= value < length for value, length in zip(voxel, shape, strict=True)):
        raise InputError(
            f"{where} has the point {', '.join(f'{value:g}' for value in place)} (z, y, x), but the volume has "
            f"{format_shape(shape)} voxels; expected voxels counted from 0: in Fiji remove the scale first "
            "(Analyze > Set Scale), and check that the order of the columns is z, y, x."
        )
    return voxel


def _class(text: str, where: str) -> bool:
    try:
        return _CLASSES[text.lower()]
    except KeyError:
        raise InputError(
            f"{where} has the class {text!r}; expected 1 or mitochondrion, 0 or background, or nothing if not known."
        ) from None
