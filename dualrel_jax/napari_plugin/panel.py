"""The fields and buttons of the dock widget, in the order of the work."""

from typing import Any

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

from dualrel_jax import starter
from dualrel_jax.configs import base

_STARTS = ("segment", "segment_all", "instances", "suggest", "learn")  # buttons that start a computation


class Panel(Container):
    """Fields and buttons without what they do."""

    def __init__(self, viewer: Any):
        self._viewer = viewer
        rules = base.get_config().instances
        self.run = FileEdit(
            mode="d",
            label="Trained run",
            value=starter.NAME,
            tooltip="Work folder of a training (--workdir), or starter: weights that come with the package.",
        )
        self.image = self._layer_choice(Image, "Image")
        self.voxel = LineEdit(label="Voxel size, nm", tooltip="z,y,x such as 30,8,8; filled in if the image has it.")
        self.segment = PushButton(text="Segment this slice")
        self.follow = CheckBox(text="Follow the slider", tooltip="Segments each slice that you go to.")
        self.segment_all = PushButton(text="Segment all slices")
        self.threshold = FloatSpinBox(label="Threshold (0: automatic)", value=0.0, min=0, max=1, step=0.05)
        self.masks = self._layer_choice(Labels, "Labels")
        self.slices = LineEdit(
            label="Corrected slices", tooltip="z of slices whose mask is correct everywhere, background too."
        )
        self.add_slice = PushButton(text="Add the slice on screen")
        self.suggest = PushButton(text="Suggest slices to correct")
        self.keep_old = CheckBox(text="Use the labels of the run too", value=True)
        self.continues = CheckBox(text="Continue from the run's weights", value=True)
        self.steps = SpinBox(label="Training steps", value=200, min=1, max=10**6)
        self.learn = PushButton(text="Learn from corrections")
        self.smallest = FloatSpinBox(label="Smallest volume, um3", value=rules.min_um3, min=0, max=1e3, step=0.001)
        self.neck = FloatSpinBox(
            label="Split necks below",
            value=rules.neck_ratio,
            min=0,
            max=1,
            step=0.05,
            tooltip="Radius of a neck as a share of that of the thinner side; 0: nothing is split.",
        )
        self.sure = FloatSpinBox(label="Least mean probability", value=rules.min_probability, min=0, max=1, step=0.05)
        self.instances = PushButton(text="Instances")
        self.progress = ProgressBar(visible=False)
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.message = Label(value="")
        self.log = TextEdit(visible=False)
        groups = (
            (self.run, self.image, self.voxel),
            (self.segment, self.follow, self.segment_all, self.threshold),
            (self.masks, self.slices, self.add_slice, self.suggest),
            (self.continues, self.keep_old, self.steps, self.learn),
            (self.smallest, self.neck, self.sure, self.instances),
        )
        forms = [Container() for _ in groups]
        for form, group in zip(forms, groups, strict=True):
            form.extend(group)  # after construction: only then are the labels made equally wide
        super().__init__(widgets=[*forms, self.progress, self.cancel, self.message, self.log], labels=False)
        self.message.native.setWordWrap(True)
        self.log.read_only = True

    def _layer_choice(self, kind: type, label: str) -> ComboBox:
        def choices(_: Any) -> list:
            return [layer for layer in self._viewer.layers if isinstance(layer, kind)]

        return ComboBox(label=label, choices=choices, nullable=True)

    def say(self, text: str, wrong: bool = False) -> None:
        self.message.value = text
        self.message.native.setStyleSheet("color: #ff8050" if wrong else "")

    def show_progress(self, done: int, total: int) -> None:
        """A total of 0: it is not known, and the bar only moves."""
        self.progress.value = 0
        self.progress.max = total
        self.progress.value = min(done, total)

    def set_busy(self, busy: bool, interruptible: bool = False) -> None:
        """Buttons while something is computed; what is `interruptible` gives way to any of them."""
        for name in _STARTS:
            getattr(self, name).enabled = not busy or interruptible
        self.cancel.enabled = self.progress.visible = busy
        self.progress.value = 0
