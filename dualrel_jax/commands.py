"""The short commands: their words, and the config field that each option sets."""

from dataclasses import dataclass, field

_DATA = {
    "--image": "data.image",
    "--labels": "data.label",
    "--voxel-nm": "data.voxel_nm",
    "--labelled": "data.labelled",
    "--labelled-slices": "data.labelled_slices",
    "--label-kind": "data.label_kind",
    "--ignore-value": "data.ignore_value",
    "--points": "data.points",
    "--unlabelled": "data.unlabelled",
    "--test-image": "data.test_image",
    "--test-labels": "data.test_label",
    "--data": "data.name",
    "--data-dir": "data.dir",
    "--size": "size",
    "--steps": "train.steps",
    "--seed": "seed",
    "--init": "train.init",
}
_PREDICT = {
    "--output": "predict.output",
    "--voxel-nm": "predict.voxel_nm",
    "--level": "predict.level",
    "--full-size": "predict.full_size",
    "--region": "predict.region",
    "--threshold": "predict.threshold",
    "--foreground-fraction": "predict.foreground_fraction",
    "--points": "predict.points",
    "--edge-nm": "predict.edge_nm",
    "--domain": "predict.domain",
    "--planes": "predict.planes",
    "--test-time-augmentation": "predict.test_time_augmentation",
}
_INSTANCES = {
    "--output": "instances.output",
    "--image": "instances.image",
    "--voxel-nm": "predict.voxel_nm",
    "--threshold": "instances.threshold",
    "--min-um3": "instances.min_um3",
    "--min-probability": "instances.min_probability",
    "--hole-um3": "instances.hole_um3",
    "--neck-ratio": "instances.neck_ratio",
    "--neck-depth-nm": "instances.neck_depth_nm",
    "--box-px": "instances.box_px",
    "--labels": "instances.label",
    "--label-kind": "instances.label_kind",
}
_TEST = {
    "--image": "data.test_image",
    "--labels": "data.test_label",
    "--label-kind": "data.test_label_kind",
    "--ignore-value": "data.test_ignore_value",
    "--voxel-nm": "data.test_voxel_nm",
}
_EVALUATE = _TEST | {
    "--mask": "data.test_mask",
    "--threshold": "predict.threshold",
    "--checkpoint": "predict.checkpoint",
}
_SUGGEST = {
    "--count": "suggest.count",
    "--box-px": "suggest.box_px",
    "--points": "suggest.points",
    "--input": "suggest.input",
    "--candidates": "suggest.candidates",
}
_EXPORT = {"--to": "export.to", "--license": "export.license", "--authors": "export.authors"}
OTHER_NAMES = {"--output": ("-o",), "--labels": ("--label",), "--test-labels": ("--test-label",)}
ON_A_CLUSTER = ("predict", "instances")  # modes that take --cluster
_RUN = "folder of the run"


@dataclass(frozen=True)
class Command:
    """A short command.

    Attributes:
        mode: that of `main.MODES`.
        summary: what it does, for the list of commands.
        example: one that works.
        operands: words without a name: RUN, or a config field -> its word. Fields may be left out.
        options: flag -> config field.
        starts: it makes a config; else it uses that of RUN.
    """

    mode: str
    summary: str
    example: str
    operands: dict[str, str] = field(default_factory=lambda: {"RUN": _RUN})
    options: dict[str, str] = field(default_factory=dict)
    starts: bool = False


COMMANDS = {
    "doctor": Command(
        "doctor",
        "checks your files and this machine before a training",
        "dualrel doctor --image volume.tif --labels masks --voxel-nm 30,8,8",
        {"RUN": "folder for the picture it draws (default: doctor), or a run, whose config is checked"},
        _DATA,
        starts=True,
    ),
    "train": Command(
        "train_and_evaluate",
        "learns from your labels; the same command continues a stopped training",
        "dualrel train runs/mine --image volume.tif --labels masks --voxel-nm 30,8,8",
        {"RUN": "folder for the run; alone, it continues a stopped training"},
        _DATA,
        starts=True,
    ),
    "predict": Command(
        "predict",
        "segments a volume with a trained run",
        "dualrel predict runs/mine volume.zarr -o mask.zarr",
        {"RUN": _RUN, "predict.input": "VOLUME"},
        _PREDICT,
    ),
    "instances": Command(
        "instances",
        "numbers and measures every mitochondrion of the last prediction",
        "dualrel instances runs/mine",
        {"RUN": _RUN, "instances.input": "PROBABILITY"},
        _INSTANCES,
    ),
    "suggest": Command(
        "suggest", "which slices to label next", "dualrel suggest runs/mine --count 5", options=_SUGGEST
    ),
    "report": Command("report", "the run on one page, RUN/report.html", "dualrel report runs/mine"),
    "evaluate": Command(
        "evaluate",
        "scores the run, or a mask, on a labelled volume",
        "dualrel evaluate runs/mine --image test.tif --labels test_mask.tif",
        options=_EVALUATE,
    ),
    "export": Command(
        "export",
        "the model as files that need no dualrel_jax, to publish",
        "dualrel export runs/mine --to bioimageio --license CC-BY-4.0",
        options=_EXPORT,
    ),
    "figures": Command(
        "figures",
        "the paper's figures, of one run or several, on a labelled volume",
        "dualrel figures runs/mine --compare runs/cps --image test.tif --labels test_masks",
        options=_TEST,
    ),
    "download": Command(
        "download",
        "fetches a public data set",
        "dualrel download lucchi",
        {"data.name": "NAME"},
        {"--dir": "data.dir"},
    ),
}
ALWAYS = "data.name"  # of download: the one field that may not be left out
