"""Suggestions and instances as layers, each with a table whose rows lead to them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.napari_plugin import layers as layers_lib
from dualrel_jax.napari_plugin import table
from dualrel_jax.napari_plugin.steps import Suggestion

_COLUMNS = ("id", "volume_um3", "length_um", "surface_um2", "mean_probability", "touches_border")  # of the table


def show_suggestions(
    viewer: Any, image: Any, suggestions: Sequence[Suggestion], visited: Callable[[], None]
) -> table.RowTable:
    """Frames the suggestions in a layer over `image`, in the place of earlier ones; -> their table.

    A row leads to its slice; then `visited` is called. The active layer, and so the brush, stay as they are.
    """
    name, chosen = f"{image.name} suggestions", viewer.layers.selection.active
    if name in viewer.layers:
        viewer.layers.remove(name)
    rows = [{"rank": i, "slice": s.z, "disagreement_bits": s.disagreement} for i, s in enumerate(suggestions, 1)]
    layer = viewer.add_shapes(
        [[(s.z, y, x) for y, x in _corners(s)] for s in suggestions],
        name=name,
        face_color="transparent",
        edge_color="yellow",
        edge_width=max(1, max(layers_lib.finest(image).shape) / 200),
        features={key: [row[key] for row in rows] for key in rows[0]},
        text={"string": "{rank}", "color": "yellow", "size": 14, "anchor": "upper_left"},
        **layers_lib.place_of(image),
    )
    layer.editable = False
    if chosen in viewer.layers:
        viewer.layers.selection.active = chosen

    def visit(row: int) -> None:
        suggestion = suggestions[row]
        layers_lib.go_to(viewer, image, suggestion.z, (slice(*suggestion.y), slice(*suggestion.x)))
        visited()

    return table.show(viewer, "DualRel suggestions", rows, visit)


def _corners(suggestion: Suggestion) -> list[tuple[int, int]]:
    """(y, x) of the corners of its box, in order."""
    (top, bottom), (left, right) = suggestion.y, suggestion.x
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def show_instances(
    viewer: Any, mask: Any, labels: np.ndarray, rows: Sequence[dict], *, voxel_nm: Voxel
) -> table.RowTable:
    """Adds the instances of a mask as a layer, with all measures as its features, and hides the mask; -> their table.

    A row chooses its instance and leads to the slice of its centre.
    """
    columns = {key: [row[key] for row in rows] for key in rows[0]} if rows else {"id": []}
    features = {"index": columns.pop("id"), **columns}  # napari finds an object's row by `index`
    layer = viewer.add_labels(labels, name=f"{mask.name} instances", features=features, **layers_lib.place_of(mask))
    mask.visible = False

    def visit(row: int) -> None:
        measures = rows[row]
        layer.selected_label = measures["id"]
        yx = tuple(slice(measures[f"{axis}_start"], measures[f"{axis}_stop"]) for axis in "yx")
        layers_lib.go_to(viewer, layer, measures["centroid_z_nm"] / voxel_nm[0], yx)

    shown = [{key: row[key] for key in _COLUMNS if key in row} for row in rows]
    return table.show(viewer, "DualRel instances", shown, visit)
