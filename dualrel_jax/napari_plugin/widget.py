"""The dock widget: what its fields and buttons do."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from dualrel_jax import config as config_lib
from dualrel_jax import starter
from dualrel_jax.configs import base
from dualrel_jax.errors import InputError
from dualrel_jax.napari_plugin import corrections, masks, results, steps
from dualrel_jax.napari_plugin import layers as layers_lib
from dualrel_jax.napari_plugin.jobs import Jobs
from dualrel_jax.napari_plugin.panel import Panel
from dualrel_jax.napari_plugin.preview import View

_COUNT = 5  # suggested slices


class DualRelWidget(Panel):
    """Works on the layers of `napari_viewer`; long computations run in a thread, a training in a process of its own."""

    def __init__(self, napari_viewer: Any):
        super().__init__(napari_viewer)
        self.jobs = Jobs(self)
        self._new_run = self._segmenter = self._view = self._described = self._target = None
        self._key = None  # of what the segmenter was made for: run, image, voxel size
        self.run.changed.connect(self._run_chosen)
        self.image.changed.connect(self._image_chosen)
        self.masks.changed.connect(self._masks_chosen)
        self.slices.changed.connect(self._slices_edited)
        self.threshold.changed.connect(self._threshold_changed)
        self.continues.changed.connect(self._continues_chosen)
        self.follow.changed.connect(self._moved)
        for button in ("segment", "segment_all", "instances", "add_slice", "suggest", "learn", "cancel"):
            act = functools.partial(self.attempt, getattr(self, f"_{button}"))
            getattr(self, button).changed.connect(lambda _, act=act: act())
        self.native.destroyed.connect(self.jobs.close)
        viewer = self._viewer
        viewer.layers.events.inserted.connect(self._layer_added)
        viewer.layers.events.removed.connect(self.reset_choices)
        camera = viewer.scene.camera
        for event in (viewer.dims.events.current_step, camera.events.center, camera.events.zoom):
            event.connect(self._moved)
        for layer in viewer.layers:
            self._adopt(layer)
        self._run_chosen()

    # ---- Choices -----------------------------------------------------------------------------------------------------

    def _layer_added(self, event: Any) -> None:
        self._adopt(event.value)

    def _adopt(self, layer: Any) -> None:
        """Offers a new layer, chooses it if none is chosen, and records strokes in a labels layer."""
        self.reset_choices()
        layer.events.name.connect(self.reset_choices)
        if isinstance(layer, Labels):
            masks.record_strokes(self._viewer, layer, self._add_corrected)
        for choice, kind in ((self.image, Image), (self.masks, Labels)):
            if choice.value is None and isinstance(layer, kind):
                choice.value = layer

    def _run_chosen(self, *_: Any) -> None:
        try:
            folder = self._run_folder()
            config = config_lib.resolve(config_lib.load(folder / "config.json"))
        except InputError as error:
            return self.say(str(error), wrong=True)
        self._continues_chosen()
        self.threshold.value = config.predict.threshold
        self.keep_old.enabled = self.keep_old.value = not starter.is_it(folder)
        if starter.is_it(folder):
            return self.say("The starter needs no training. Open a volume and press Segment this slice.")
        self.say(f"{config.method.name}, size {config.size}, trained on {config.data.name}.")

    def _continues_chosen(self, *_: Any) -> None:
        with contextlib.suppress(InputError):
            config = config_lib.resolve(config_lib.load(self._run_folder() / "config.json"))
            self.steps.value = corrections.default_steps(config, self.continues.value)

    def _image_chosen(self, layer: Image | None) -> None:
        self.voxel.value = layers_lib.voxel_text(layers_lib.voxel_of_layer(layer) if layer is not None else None)

    def _masks_chosen(self, layer: Labels | None) -> None:
        self.slices.value = layer.metadata.get(masks.SLICES, "") if layer is not None else ""

    def _slices_edited(self, text: str) -> None:
        if self.masks.value is not None:
            self.masks.value.metadata[masks.SLICES] = text

    def _add_corrected(self, layer: Labels, z: int) -> None:
        self.masks.value = layer
        if str(z) not in (listed := self.slices.value.replace(",", " ").split()):
            self.slices.value = ", ".join([*listed, str(z)])

    def _volume(self):
        voxel_nm = layers_lib.parse_voxel_text(self.voxel.value)
        return layers_lib.volume_of_layer(self.image.value, voxel_nm)

    def _run_folder(self) -> Path:
        if not self.run.line_edit.value.strip():
            raise InputError("No trained run is chosen; choose the work folder of a training, or type starter.")
        return starter.folder(Path(self.run.value).expanduser())

    def _loader(self) -> Callable[[], steps.Segmenter]:
        """A function that loads the run for the image, in a thread; the same as before if nothing has changed."""
        folder, volume, image, key = self._run_folder(), self._volume(), self.image.value, self._wanted()
        if key != self._key:
            self._key, self._segmenter = key, None

        def load() -> steps.Segmenter:
            if self._segmenter is None or self._key != key:
                self._segmenter = steps.load(folder, volume, layers_lib.is_in_memory(image))
            return self._segmenter

        return load

    def _wanted(self) -> tuple:
        """What a segmenter is made for."""
        return self.run.line_edit.value, self.image.value, self.voxel.value

    # ---- Segmentation ------------------------------------------------------------------------------------------------

    def _aim(self) -> None:
        """Makes sure that there is a mask for the image; a new one is segmented from nothing.

        napari hands out layers in proxies: they are compared by `==`.
        """
        target = masks.mask_for(self._viewer, self.image.value, self.masks.value)
        if target != self._target and self._segmenter is not None:
            self._segmenter.begin()
        self._target = self.masks.value = target

    def _segment(self) -> None:
        self._run_folder(), self._volume()  # InputError before anything is made
        self._aim()
        self._view, self._described = self._current_view(), None
        self.say("Segmenting the slice on screen; the first one takes some seconds more.")
        self.jobs.start(steps.segment_view, self._loader(), lambda: self._view, then=self._viewed, gives_way=True)

    def _current_view(self) -> View:
        image = self.image.value
        return View(layers_lib.z_on_screen(image, self._viewer), layers_lib.yx_on_screen(image))

    def _moved(self, *_: Any) -> None:
        """Segments what is on screen now, if the slider is followed; a preview at work turns to it by itself."""
        if not self.follow.value or self.image.value not in self._viewer.layers:
            return
        view, is_loaded = self._current_view(), self._segmenter is not None and self._key == self._wanted()
        if self.jobs.is_previewing and is_loaded:
            self._view = view
        elif self.jobs.is_idle or self.jobs.is_previewing:
            if not is_loaded or self._target not in self._viewer.layers or not self._segmenter.preview.is_mean(view):
                self.attempt(self._segment)
            elif view != self._view:
                self._view = view
                self._viewed(self._segmenter)

    def _viewed(self, segmenter: steps.Segmenter) -> None:
        self._describe_view(segmenter, "averaged along z" if segmenter.sigma else "")
        if self.follow.value and self._current_view() != self._view:
            self._segment()

    def _describe_view(self, segmenter: steps.Segmenter, how: str) -> None:
        view = self._described = self._view
        filled = np.mean(np.asarray(self._target.data[view.z, *view.yx]) > 0)
        self.say(
            f"Slice {view.z}{', ' if how else ''}{how}: mitochondria fill {100 * filled:.1f} %, above a probability of "
            f"{self._used_threshold():.2f}. Correct {self._target.name} with the brush."
        )

    def _segment_all(self) -> None:
        self._run_folder(), self._volume()
        self._aim()
        self.say("Segmenting all slices.")
        self.jobs.start(steps.segment_all, self._loader(), then=self._segmented)

    def _segmented(self, segmenter: steps.Segmenter) -> None:
        layer, zs = self._target, range(len(segmenter.volume))
        if not self.threshold.value and not segmenter.threshold:
            segmenter.threshold = steps.automatic_threshold(segmenter, masks.probability_of(layer), zs)
            masks.apply_threshold(self._viewer, layer, zs, segmenter.threshold)
        filled = np.mean([np.mean(np.asarray(layer.data[z]) > 0) for z in zs])
        kept = masks.corrected_slices(layer)
        stayed = f" Corrected slices stay as they are: {', '.join(map(str, kept))}." if kept else ""
        self.say(
            f"Mitochondria fill {100 * filled:.1f} % of {self.image.value.name}, above a probability of "
            f"{self._used_threshold():.2f}.{stayed} Correct {layer.name} with the brush."
        )

    def advance(self, progress: steps.Progress) -> None:
        """Shows how far a computation is, and writes what it has segmented."""
        self.show_progress(progress.done, progress.total)
        if progress.patches and self._target in self._viewer.layers:
            masks.write(self._viewer, self._target, progress.patches, self._used_threshold())
            segmenter = self._segmenter
            if self.jobs.is_previewing and self._described != self._view and segmenter.preview.is_shown(self._view):
                self._describe_view(segmenter, "not averaged along z yet" if segmenter.sigma else "")

    def _used_threshold(self) -> float:
        from dualrel_jax.inference.threshold import UNCALIBRATED

        return self.threshold.value or (self._segmenter and self._segmenter.threshold) or UNCALIBRATED

    def _threshold_changed(self, _: float) -> None:
        if self._segmenter is not None and self._target in self._viewer.layers:
            zs = self._segmenter.preview.zs()
            masks.apply_threshold(self._viewer, self._target, zs, self._used_threshold())

    # ---- Corrections -------------------------------------------------------------------------------------------------

    def _add_slice(self) -> None:
        layer = self.masks.value
        masks.labels_of(layer, self._volume(), ())
        self._add_corrected(layer, layers_lib.z_on_screen(layer, self._viewer))

    def _suggest(self) -> None:
        known = masks.corrected_slices(self.masks.value) if self.masks.value is not None else []
        self.say("Looking for slices in which the model's predictions disagree.")
        self.jobs.start(steps.suggest, self._loader(), known, _COUNT, then=self._show_suggestions)

    def _show_suggestions(self, suggestions: list[steps.Suggestion]) -> None:
        def visited() -> None:
            if self.jobs.is_idle or self.jobs.is_previewing:
                self.attempt(self._segment)

        self.suggestions = results.show_suggestions(self._viewer, self.image.value, suggestions, visited)
        self.say(
            f"Slices to correct next, the most useful first: {', '.join(str(s.z) for s in suggestions)}. A click on a "
            "row of the table leads to a slice; the frame is where predictions disagree most."
        )

    def _learn(self) -> None:
        run, volume = self._run_folder(), self._volume()
        masks.labels_of(self.masks.value, volume, ())
        listed = corrections.parse_slices(self.slices.value, len(volume))
        labels = {z: m.astype(np.uint8) for z, m in masks.labels_of(self.masks.value, volume, listed).items()}
        self._new_run = corrections.next_folder(run, self.image.value.source.path)
        how = {"keep_old": self.keep_old.value, "steps": self.steps.value, "continues": self.continues.value}
        prepare = functools.partial(corrections.prepare, **how)
        self.say("Writing the corrections.")
        self.jobs.start(prepare, run, self._new_run, volume, labels, then=self._train)

    def _train(self, command: list[str]) -> None:
        start = f"the weights of {self._run_folder().name}" if self.continues.value else "new weights"
        self.say(f"Training from {start} in {self._new_run}.")
        self.jobs.train(command, self._trained)

    def _trained(self, code: int | None) -> None:
        if code is None:
            self.say(f"The training was stopped; its files are in {self._new_run}.")
        elif code:
            lines = [line for line in self.log.value.splitlines() if line.strip()]
            self.say(lines[-1] if lines else f"The training ended with code {code}.", wrong=True)
        else:
            self.log.visible = False
            self.run.value = self._new_run
            self.say(f"Training finished. {self._new_run} is now the trained run: segment again.")
            self._moved()

    # ---- Instances ---------------------------------------------------------------------------------------------------

    def _instances(self) -> None:
        volume, layer, rules = self._volume(), self.masks.value, base.get_config().instances
        rules.min_um3, rules.neck_ratio = self.smallest.value, self.neck.value
        rules.min_probability = self.sure.value
        mask, probability = masks.whole_mask(layer, volume), masks.probability_of(layer)
        certain = masks.kept_slices(layer)
        show = functools.partial(self._show_instances, layer)
        self.say("Numbering and measuring the instances.")
        self.jobs.start(steps.label_and_measure, mask, probability, volume.voxel_nm, rules, certain, then=show)

    def _show_instances(self, mask: Labels, result: tuple[np.ndarray, list[dict]]) -> None:
        labels, rows = result
        voxel_nm = layers_lib.parse_voxel_text(self.voxel.value)
        self.instance_table = results.show_instances(self._viewer, mask, labels, rows, voxel_nm=voxel_nm)
        self.say(
            f"{len(rows)} instances. A click on a row of the table leads to one. All measures, to save: Layers > "
            "Metadata > Features table widget."
        )

    # ---- Errors ------------------------------------------------------------------------------------------------------

    def _cancel(self) -> None:
        self.jobs.cancel()

    def attempt(self, act: Callable, *arguments: Any) -> None:
        """Calls `act`; shows an InputError in the panel."""
        try:
            act(*arguments)
        except InputError as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if isinstance(error, ModuleNotFoundError):
            error = InputError(f'{error.name} is not installed; run pip install -e ".[napari]".')
        if not isinstance(error, InputError):
            self.say(f"Failed: {error}", wrong=True)
            raise error  # napari shows the traceback
        self.say(str(error), wrong=True)
