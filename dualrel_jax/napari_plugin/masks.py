"""The mask and the probability of an image as layers, into which segmentation writes and a person paints."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.metrics.segmentation import above
from dualrel_jax.napari_plugin import layers as layers_lib
from dualrel_jax.napari_plugin.preview import Patch
from dualrel_jax.utils.text import format_shape

SLICES = "corrected slices"  # keys of the metadata of a labels layer
_PAINTED, _STROKE, _PROBABILITY, _IMAGE = "painted slices", "slice of a stroke", "probability", "image"
_TOOLS = ("paint", "erase", "fill", "polygon")  # modes of a labels layer that change it
_IN_MEMORY_BYTES = 1 << 30
_CHUNK = (1, 512, 512)


def empty(shape: tuple[int, int, int]) -> Any:
    """Zeros, uint8 `z y x`: an array, or above 1 GiB one of tensorstore, of which only what is written takes memory."""
    if math.prod(shape) <= _IN_MEMORY_BYTES:
        return np.zeros(shape, np.uint8)
    import tensorstore as ts

    spec = {"driver": "zarr", "kvstore": "memory://"}
    layout = ts.ChunkLayout(chunk_shape=_CHUNK)
    return ts.open(spec, create=True, dtype=ts.uint8, shape=shape, chunk_layout=layout).result()


def mask_for(viewer: Any, image: Any, chosen: Any) -> Any:
    """The labels layer that segmentation of `image` writes to: `chosen` or the last of its own, or a new one.

    A layer that a person drew from nothing is never written to.
    """
    for layer in (chosen, *reversed(viewer.layers)):
        if layer is not None and layer.metadata.get(_IMAGE) == image and layer in viewer.layers:
            return layer
    shape = layers_lib.finest(image).shape
    probability = empty(shape)
    look = {"contrast_limits": (0, 255), "colormap": "magma", "blending": "additive", "visible": False}
    place = layers_lib.place_of(image)
    viewer.add_image(probability, name=f"{image.name} probability", multiscale=False, **look, **place)
    metadata = {_PROBABILITY: probability, _IMAGE: image}
    return viewer.add_labels(empty(shape), name=f"{image.name} mask", multiscale=False, metadata=metadata, **place)


def probability_of(layer: Any) -> Any:
    """uint8 `z y x`, 255 means 1; None for a layer that was not segmented."""
    return layer.metadata.get(_PROBABILITY)


def write(viewer: Any, layer: Any, patches: Iterable[Patch], threshold: float) -> None:
    """Writes the patches to the probability and to the mask, but not to slices of the mask that a person painted."""
    probability, kept, zs = probability_of(layer), kept_slices(layer), set()
    for patch in patches:
        probability[patch.z, *patch.yx] = patch.probability
        if patch.z not in kept:
            layer.data[patch.z, *patch.yx] = above(patch.probability, threshold)
        zs.add(patch.z)
    _show(viewer, layer, zs)


def apply_threshold(viewer: Any, layer: Any, zs: Iterable[int], threshold: float) -> None:
    """Makes the mask of slices `zs` again from their probability, but not of those that a person painted."""
    zs = set(zs) - kept_slices(layer)
    for z in zs:
        layer.data[z] = above(np.asarray(probability_of(layer)[z]), threshold)
    _show(viewer, layer, zs)


def _show(viewer: Any, layer: Any, zs: set[int]) -> None:
    """Draws the layer again if one of the slices is on screen."""
    if layers_lib.z_on_screen(layer, viewer) in zs or viewer.dims.ndisplay == 3:
        layer.refresh()
        for other in viewer.layers:
            if other.visible and other.data is probability_of(layer):
                other.refresh()


def kept_slices(layer: Any) -> set[int]:
    """The slices that segmentation must leave as they are: listed as corrected, or touched by a 3-D brush."""
    return _listed(layer).union(*(layer.metadata.get(key, ()) for key in (_PAINTED, _STROKE)))


def corrected_slices(layer: Any) -> list[int]:
    """Those listed as corrected that the layer has."""
    return sorted(z for z in _listed(layer) if z < layer.data.shape[0])


def _listed(layer: Any) -> set[int]:
    """The numbers that the panel lists as corrected slices; what is not a number yet is left out."""
    words = layer.metadata.get(SLICES, "").replace(",", " ").split()
    return {int(word) for word in words if word.isdecimal()}


def record_strokes(viewer: Any, layer: Any, corrected: Callable[[Any, int], None]) -> None:
    """Calls `corrected(layer, z)` for each slice that a person paints in; a 3-D brush protects its slices only."""

    def finished(event: Any) -> None:
        for index, *_ in event.value:
            touched = np.unique(np.arange(layer.data.shape[0])[index[0]]).tolist()
            if len(touched) == 1:
                corrected(layer, touched[0])
            else:
                layer.metadata.setdefault(_PAINTED, set()).update(touched)

    def pressed(layer: Any, event: Any) -> Iterator[None]:
        """Protects the slice on screen until the button is released: only then a stroke is reported."""
        if str(layer.mode) not in _TOOLS:
            return
        layer.metadata[_STROKE] = {layers_lib.z_on_screen(layer, viewer)}
        yield
        while event.type == "mouse_move":
            yield
        layer.metadata[_STROKE] = set()

    if layer.ndim == 3:
        layer.events.paint.connect(finished)
        layer.mouse_drag_callbacks.append(pressed)


def labels_of(layer: Any, volume: Volume, zs: Iterable[int] | None = None) -> dict[int, np.ndarray]:
    """z -> bool `y x`: where the labels layer is not 0, in slices `zs` or all.

    Raises:
        InputError: there is no layer, or its shape is not that of the volume.
    """
    if layer is None:
        raise InputError("No labels layer is chosen; press Segment this slice first, or add a labels layer and paint.")
    data = layers_lib.finest(layer)
    if tuple(data.shape) != volume.shape:
        raise InputError(
            f"Layer {layer.name} has {format_shape(data.shape)} voxels (z y x), but {volume.path} has "
            f"{format_shape(volume.shape)}; expected labels of that image: choose layers that belong together."
        )
    return {z: np.asarray(data[z]) > 0 for z in (range(len(volume)) if zs is None else zs)}


def whole_mask(layer: Any, volume: Volume) -> np.ndarray:
    """`z y x` bool: where the labels layer is not 0; InputError as in `labels_of`, or if it is too large for memory."""
    labels_of(layer, volume, ())
    if not isinstance(layers_lib.finest(layer), np.ndarray) and math.prod(volume.shape) > _IN_MEMORY_BYTES:
        raise InputError(
            f"Layer {layer.name} has {format_shape(volume.shape)} voxels, too many to number at once here; "
            "dualrel predict and dualrel instances do it box by box (docs/instances.md)."
        )
    return np.asarray(layers_lib.finest(layer)) > 0
