"""The dock widget: a run, an image, and the buttons Segment, Instances and Retrain."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    Label,
    LineEdit,
    ProgressBar,
    PushButton,
    SpinBox,
    TextEdit,
)
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from qtpy.QtCore import QProcess

from dualrel_jax import config as config_lib
from dualrel_jax.configs import base
from dualrel_jax.errors import InputError
from dualrel_jax.napari_plugin import corrections, steps
from dualrel_jax.napari_plugin import layers as layers_lib

_SLICES, _PROBABILITY = "corrected slices", "probability"  # keys of a layer's metadata
_STEP = re.compile(r"step (\d+)/(\d+)")  # in the output of a training


class DualRelWidget(Container):
    """Works on the layers of `napari_viewer`; long computations run in a thread, a training in a process of its own."""

    def __init__(self, napari_viewer: Any):
        self._viewer, self._worker, self._process, self._new_run = napari_viewer, None, None, None
        rules = base.get_config().instances
        self.run = FileEdit(mode="d", label="Trained run", tooltip="Work folder of a training (--workdir).")
        self.image = self._layer_choice(Image, "Image")
        self.voxel = LineEdit(label="Voxel size, nm", tooltip="z,y,x such as 30,8,8; filled in if the image has it.")
        self.threshold = FloatSpinBox(label="Threshold (0: automatic)", value=0.0, min=0, max=1, step=0.05)
        self.segment = PushButton(text="Segment")
        self.masks = self._layer_choice(Labels, "Labels")
        self.smallest = FloatSpinBox(label="Smallest volume, um3", value=rules.min_um3, min=0, max=1e3, step=0.001)
        self.neck = FloatSpinBox(
            label="Split necks deeper than, nm", value=rules.seed_depth_nm, min=0, max=1e4, step=10
        )
        self.instances = PushButton(text="Instances")
        self.slices = LineEdit(
            label="Corrected slices", tooltip="z of slices whose mask is correct everywhere, background too."
        )
        self.add_slice = PushButton(text="Add the slice on screen")
        self.keep_old = CheckBox(text="Use the labels of the run too", value=True)
        self.steps = SpinBox(label="Training steps", value=2000, min=1, max=10**6)
        self.retrain = PushButton(text="Retrain from corrections")
        self.progress = ProgressBar(visible=False)
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.message = Label(value="Choose a trained run and an image.")
        self.log = TextEdit(visible=False)
        groups = (
            (self.run, self.image, self.voxel, self.threshold, self.segment),
            (self.masks, self.smallest, self.neck, self.instances),
            (self.slices, self.add_slice, self.keep_old, self.steps, self.retrain),
        )
        forms = [Container() for _ in groups]
        for form, group in zip(forms, groups, strict=True):
            form.extend(group)  # after construction: only then are the labels made equally wide
        super().__init__(widgets=[*forms, self.progress, self.cancel, self.message, self.log], labels=False)
        self.message.native.setWordWrap(True)
        self.log.read_only = True
        self._connect()

    def _connect(self) -> None:
        self.run.changed.connect(self._run_chosen)
        self.image.changed.connect(self._image_chosen)
        self.masks.changed.connect(self._masks_chosen)
        self.slices.changed.connect(self._slices_edited)
        for button in ("segment", "instances", "add_slice", "retrain", "cancel"):
            act = functools.partial(self._try, getattr(self, f"_{button}"))
            getattr(self, button).changed.connect(lambda _, act=act: act())
        self.native.destroyed.connect(self._closed)
        self._viewer.layers.events.inserted.connect(self._layer_added)
        self._viewer.layers.events.removed.connect(self.reset_choices)
        for layer in self._viewer.layers:
            self._adopt(layer)

    def _closed(self) -> None:
        """Stops the thread and the training that a closed panel started, and disconnects it from both."""
        if self._worker is not None:
            self._worker.quit()
            self._worker.finished.disconnect(self._rest)
            self._worker.errored.disconnect(self._fail)
            if hasattr(self._worker, "yielded"):
                self._worker.yielded.disconnect(self._advance)
        if self._process is not None:
            self._process.readyRead.disconnect(self._read)
            self._process.finished.disconnect(self._trained)
            self._process.kill()

    # ---- Choices -----------------------------------------------------------------------------------------------------

    def _layer_choice(self, kind: type, label: str) -> ComboBox:
        def choices(_: Any) -> list:
            return [layer for layer in self._viewer.layers if isinstance(layer, kind)]

        return ComboBox(label=label, choices=choices, nullable=True)

    def _layer_added(self, event: Any) -> None:
        self._adopt(event.value)

    def _adopt(self, layer: Any) -> None:
        """Offers a new layer, chooses it if none is chosen, and records strokes in a labels layer."""
        self.reset_choices()
        layer.events.name.connect(self.reset_choices)
        if isinstance(layer, Labels):
            layer.events.paint.connect(self._painted)
        for choice, kind in ((self.image, Image), (self.masks, Labels)):
            if choice.value is None and isinstance(layer, kind):
                choice.value = layer

    def _run_chosen(self) -> None:
        try:
            config = config_lib.resolve(config_lib.load(Path(self.run.value) / "config.json"))
        except InputError as error:
            return self._say(str(error), wrong=True)
        self.steps.value, self.threshold.value = config.train.steps, config.predict.threshold
        self._say(f"{config.method.name}, size {config.size}, trained on {config.data.name}.")

    def _image_chosen(self, layer: Image | None) -> None:
        self.voxel.value = layers_lib.voxel_text(layers_lib.voxel_of_layer(layer) if layer is not None else None)

    def _masks_chosen(self, layer: Labels | None) -> None:
        self.slices.value = layer.metadata.get(_SLICES, "") if layer is not None else ""

    def _slices_edited(self, text: str) -> None:
        if self.masks.value is not None:
            self.masks.value.metadata[_SLICES] = text

    def _painted(self, event: Any) -> None:
        """Adds the slice of a stroke to the corrected ones; a 3-D brush through several slices adds none."""
        layer = event.source
        if layer.ndim != 3:
            return
        for index, *_ in event.value:
            touched = np.unique(np.arange(layer.data.shape[0])[index[0]])
            if len(touched) == 1:
                self._add_corrected(layer, int(touched[0]))

    def _add_corrected(self, layer: Labels, z: int) -> None:
        self.masks.value = layer
        if str(z) not in (listed := self.slices.value.replace(",", " ").split()):
            self.slices.value = ", ".join([*listed, str(z)])

    def _volume(self):
        voxel_nm = layers_lib.parse_voxel_text(self.voxel.value)
        return layers_lib.volume_of_layer(self.image.value, voxel_nm)

    def _run_folder(self) -> Path:
        if not self.run.line_edit.value.strip():
            raise InputError("No trained run is chosen; choose the work folder of a training (its --workdir).")
        return Path(self.run.value).expanduser()

    # ---- Buttons -----------------------------------------------------------------------------------------------------

    def _segment(self) -> None:
        image, threshold = self.image.value, self.threshold.value

        def show(result: tuple[np.ndarray, float]) -> None:
            probability, automatic = result
            used = threshold or automatic
            mask, name = steps.threshold_probability(probability, used), f"{image.name} mask"
            look = {"contrast_limits": (0, 255), "colormap": "magma", "blending": "additive", "visible": False}
            self._viewer.add_image(probability, name=f"{image.name} probability", **look, **_place(image))
            self.masks.value = self._viewer.add_labels(
                mask, name=name, metadata={_PROBABILITY: probability}, **_place(image)
            )
            self._say(
                f"Mitochondria fill {100 * mask.mean():.1f} % of {image.name}, above a probability of {used:.2f}. "
                f"Correct {name} with the brush."
            )

        self._start(show, steps.segment, self._run_folder(), self._volume())

    def _instances(self) -> None:
        volume, layer, rules = self._volume(), self.masks.value, base.get_config().instances
        rules.min_um3, rules.seed_depth_nm = self.smallest.value, self.neck.value
        mask = layers_lib.mask_of_layer(layer, volume)

        def show(result: tuple[np.ndarray, list[dict]]) -> None:
            labels, rows = result
            columns = {key: [row[key] for row in rows] for key in rows[0]} if rows else {"id": []}
            features = {"index": columns.pop("id"), **columns}  # napari finds an object's row by `index`
            attributes = {"features": features, "metadata": {_PROBABILITY: layer.metadata.get(_PROBABILITY)}}
            self._viewer.add_labels(labels, name=f"{layer.name} instances", **attributes, **_place(layer))
            self._say(f"{len(rows)} instances. For their table: Layers > Metadata > Features table widget.")

        self._start(show, steps.label_and_measure, mask, layer.metadata.get(_PROBABILITY), volume.voxel_nm, rules)

    def _add_slice(self) -> None:
        layer = self.masks.value
        length = len(layers_lib.mask_of_layer(layer, self._volume()))
        z = round(float(layer.world_to_data(self._viewer.dims.point[-3:])[0]))
        self._add_corrected(layer, min(max(z, 0), length - 1))

    def _retrain(self) -> None:
        run, volume = self._run_folder(), self._volume()
        mask = layers_lib.mask_of_layer(self.masks.value, volume)
        labels = {z: mask[z].astype(np.uint8) for z in corrections.parse_slices(self.slices.value, len(mask))}
        self._new_run = corrections.next_folder(run)
        prepare = functools.partial(corrections.prepare, keep_old=self.keep_old.value, steps=self.steps.value)
        self._start(self._train, prepare, run, self._new_run, volume, labels)

    def _train(self, command: Sequence[str]) -> None:
        self.log.value, self.log.visible = "", True
        self._process = QProcess(self.native)  # ends with the widget
        self._process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self._process.readyRead.connect(self._read)
        self._process.finished.connect(self._trained)
        self._say(f"Training from new weights in {self._new_run}.")
        self._busy(True)
        self._process.start(command[0], list(command[1:]))

    def _read(self) -> None:
        text = bytes(self._process.readAll()).decode(errors="replace")
        if text.strip():
            self.log.native.append(text.rstrip())
        for done, total in _STEP.findall(text):
            self._advance((int(done), int(total)))

    def _trained(self, code: int, *_: Any) -> None:
        self._read()
        process, self._process = self._process, None
        self._busy(False)
        if process.exitStatus() != QProcess.ExitStatus.NormalExit:
            self._say(f"The training was stopped; its files are in {self._new_run}.")
        elif code:
            lines = [line for line in self.log.value.splitlines() if line.strip()]
            self._say(lines[-1] if lines else f"The training ended with code {code}.", wrong=True)
        else:
            self.run.value = self._new_run
            self._say(f"Training finished. {self._new_run} is now the trained run: press Segment.")

    def _cancel(self) -> None:
        if self._worker is not None:
            self._worker.quit()
            self._say("Stopping after the current slice.")
        if self._process is not None:
            self._process.kill()

    # ---- Thread and process ------------------------------------------------------------------------------------------

    def _start(self, then: Callable, function: Callable, *arguments: Any) -> None:
        """Runs `function(*arguments)` in a thread, then `then(result)` in this one."""
        self._busy(True)
        self._say("Computing ...")
        connect = {"returned": lambda result: self._try(then, result), "errored": self._fail, "finished": self._rest}
        self._worker = create_worker(function, *arguments, _start_thread=False, _connect=connect)
        if hasattr(self._worker, "yielded"):
            self._worker.yielded.connect(self._advance)
        self._worker.start()

    def _advance(self, finished_of: tuple[int, int]) -> None:
        self.progress.max = finished_of[1]
        self.progress.value = finished_of[0]

    def _rest(self) -> None:
        stopped, self._worker = self._worker.abort_requested, None
        if stopped:
            self._say("Stopped.")
        self._busy(self._process is not None)

    def _busy(self, busy: bool) -> None:
        for name in ("segment", "instances", "retrain"):
            getattr(self, name).enabled = not busy
        self.cancel.enabled = self.progress.visible = busy
        self.progress.value = 0

    def _try(self, act: Callable, *arguments: Any) -> None:
        """Calls `act`; shows an InputError in the panel."""
        try:
            act(*arguments)
        except InputError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, ModuleNotFoundError):
            error = InputError(f'{error.name} is not installed; run pip install -e ".[napari]".')
        if not isinstance(error, InputError):
            self._say(f"Failed: {error}", wrong=True)
            raise error  # napari shows the traceback
        self._say(str(error), wrong=True)

    def _say(self, text: str, wrong: bool = False) -> None:
        self.message.value = text
        self.message.native.setStyleSheet("color: #ff8050" if wrong else "")


def _place(layer: Any) -> dict[str, Any]:
    return {key: getattr(layer, key) for key in ("scale", "translate", "units")}
