"""Every field that all methods share, once, with its meaning, unit and range. A method's config adds `config.method`.

`preset` fields are filled from `sizes.SIZES[config.size]`, unless the command line sets them.
"""

from dualrel_jax.configs.sizes import SIZES
from ml_collections import ConfigDict

from dualrel_jax.config import text_forms
from dualrel_jax.config.schema import Tree, defaults, field, preset

DOWNLOADS = ("lucchi", "lucchi_pp", "mitoem_r", "mitoem_h", "vnc")  # by `dualrel download`
DATASETS = ("phantom", "phantom_b", *DOWNLOADS, "fly_brain", "glycolytic_muscle", "own")
LABEL_KINDS = ("binary", "instances", "grey")
LARGEST_SEED = 2**31 - 1
MOST_STEPS = 100_000_000
FRACTION = {"minimum": 0, "maximum": 1}
PROBABILITY = {"minimum": 0, "below": 1}


def get_config(arg: str = "phantom,1/32", method: Tree | None = None) -> ConfigDict:
    """`arg` is `data set[,labelled slices]`: `lucchi,1/32`, `own,5`, `vnc,all`. `method`: the fields of a method.

    Without a count, your own labels are all used: they are few as it is.
    """
    name, _, labelled = arg.partition(",")
    config = defaults(FIELDS if method is None else {**FIELDS, "method": method})
    config.data.name, config.data.labelled = name, labelled or ("all" if name == "own" else config.data.labelled)
    return config


DATA = {
    "name": field("phantom", "data set; own: your files", choices=DATASETS),
    "dir": field("data", "folder of the public data sets, one folder each, such as data/lucchi"),
    "labelled": field("1/32", "which training slices keep their labels (own: all)", form=text_forms.LABELLED),
    "partition": field("uniform", "labelled slices: evenly spaced in z, or at random", choices=("uniform", "random")),
    "partition_seed": field(0, "seed of a random choice", minimum=0, maximum=LARGEST_SEED),
    "partition_file": field("", "a partition.json of an earlier run, whose choice is used instead"),
    "train_region": field(
        "",
        "part of the training volume that trains, in its voxels, with and without labels",
        form=text_forms.BOX,
        special="the slices of the data set",
    ),
    "validation_region": field(
        "",
        "region that is held out for validation",
        form=text_forms.BOX_OR_NONE,
        special="the slices of the data set",
    ),
    "pixel_nm": preset(
        float,
        "in-plane pixel size of the training; a training volume of larger pixels keeps its own without data.upsample",
        unit="nm",
        minimum=0.5,
        maximum=100,
        special="the size of the training volume",
    ),
    "upsample": preset(bool, "whether a training volume of larger pixels than data.pixel_nm is resampled too"),
    "image": field("", "path of your volume, or of several, separated by commas (data.name=own)"),
    "label": field("", "path of labels, a stack or a folder of some slices; of several volumes in the same order"),
    "labelled_slices": field(
        "",
        "slices that your labels belong to",
        form=text_forms.SLICE_LIST,
        special="by file names or, in a full stack, those that are not empty",
    ),
    "unlabelled": field(
        "",
        "paths of further volumes without labels, or of boxes of them such as a.zarr[0:99,,5000:9000], separated by "
        "commas (data.name=own)",
    ),
    "level": field(
        "auto",
        "level of OME-Zarr and n5 pyramids that trains, 0 the finest; auto: the coarsest whose pixels are not larger "
        "than data.pixel_nm, with labels where these have it too",
        form=text_forms.LEVEL,
    ),
    "unlabelled_from": field(
        "",
        "other data sets whose training slices join the unlabelled ones",
        form=text_forms.names_joined(DATASETS),
        special="none",
    ),
    "voxel_nm": field("", "voxel size of your volumes", unit="nm", form=text_forms.VOXELS, special="that of the files"),
    "label_kind": field(
        "binary",
        "how your labels are read: two values, a number per instance (> 0), or grey (> 127)",
        choices=LABEL_KINDS,
    ),
    "points": field(
        "", "table of points of your volume classified by clicks, to learn from instead of labels", special="none"
    ),
    "point_radius_nm": field(
        40.0, "radius of the disc around a point that has its class, in the slice", unit="nm", minimum=0, maximum=10_000
    ),
    "ignore_value": field(
        -1, "value of your labels at pixels that count nowhere; -1: none", minimum=-1, maximum=2**32 - 1
    ),
    "test_image": field("", "path of a labelled test volume, instead of that of the data set"),
    "test_label": field("", "path of the test labels"),
    "test_label_kind": field("same", "how they are read; same: as data.label_kind", choices=("same", *LABEL_KINDS)),
    "test_ignore_value": field(-2, "their data.ignore_value; -2: the same", minimum=-2, maximum=2**32 - 1),
    "test_mask": field("", "path of a mask of the test volume, which is scored instead of the run", special="none"),
    "test_voxel_nm": field("", "the test voxel size", unit="nm", form=text_forms.VOXEL, special="that of the file"),
    "source": field("files", "files, or data sets prepared with `tfds build`", choices=("files", "tfds")),
    "tfds_dir": field("", "folder of the prepared data sets", special="the default of tensorflow_datasets"),
    "pipeline": field(
        "auto",
        "slices on the device (resident), read by tf.data (tf), or on the device where they fit",
        choices=("auto", "resident", "tf"),
    ),
    "resident_limit_mib": field(
        4096, "largest volume that `auto` keeps on the device", unit="MiB", minimum=0, maximum=2**24
    ),
    "cache_mib": field(1024, "memory for decoded slices, with tf.data", unit="MiB", minimum=0, maximum=2**24),
    "foreground_crop_fraction": field(0.2, "fraction of labelled crops that must show a mitochondrion", **FRACTION),
}

AUGMENT = {
    "flips": field(True, "mirror and turn every crop, by quarter turns"),
    "scale": field(
        (1.0, 1.0),
        "zoom, drawn log-uniformly; (1.0, 1.0): none; (0.7, 1.4): for other microscopes",
        minimum=0.1,
        maximum=10,
    ),
    "elastic_px": field(
        0.0, "standard deviation of the displacement of control points", unit="px", minimum=0, maximum=64, special="off"
    ),
    "elastic_grid_px": field(32, "largest control-point distance", unit="px", minimum=4, maximum=4096),
    # Photometric, on intensities of 0..1.
    "weak": field(0.0, "strength of the weak view relative to the strong view", **FRACTION),
    "filter": field(
        0.0, "largest standard deviation of the weights of a random filter", minimum=0, maximum=1, special="none"
    ),
    "curve": field(
        0.0,
        "deviation of the log slopes of a random rising curve of the grey values",
        minimum=0,
        maximum=3,
        special="none",
    ),
    "brightness": field(0.25, "largest offset, uniform in both directions", **FRACTION),
    "contrast": field(0.5, "C: factor around the mean, log-uniform in 1/(1 + C) to 1 + C", minimum=0, maximum=10),
    "gamma": field(0.5, "G: exponent, log-uniform in 1/(1 + G) to 1 + G", minimum=0, maximum=10),
    "blur_px": field(1.5, "largest standard deviation of a Gaussian blur", unit="px", minimum=0, maximum=16),
    "noise": field(0.1, "largest standard deviation of Gaussian noise", **FRACTION),
    "probability": field(0.6, "probability of each photometric change", **FRACTION),
}

MODEL = {
    "stem": preset(
        int, "side of the cells that the network sees as one (pixel unshuffle)", unit="px", choices=(1, 2, 4)
    ),
    "width": preset(int, "channels of the first level, doubled at each level", minimum=1, maximum=1024),
    "depth": preset(int, "levels of the U-Net, the bottom included", minimum=2, maximum=8),
    "norm": field("group", "normalisation: of groups of channels, or of the batch", choices=("group", "batch")),
    "dtype": preset(str, "type of the computation; parameters and losses are float32", choices=("float32", "bfloat16")),
}

TRAIN = {
    "steps": preset(int, "optimiser steps", minimum=1, maximum=MOST_STEPS),
    "crop_px": preset(int, "side of a square crop", unit="px", minimum=4, maximum=8192),
    "batch_labelled": preset(int, "labelled crops per step, over all devices", minimum=1, maximum=65536),
    "batch_unlabelled": preset(int, "unlabelled crops per step, over all devices", minimum=1, maximum=65536),
    "init": field(
        "",
        "run or .safetensors file whose weights the training starts from; a tenth of the steps is then enough",
        special="new weights",
    ),
    "second_stage_fraction": field(
        0.0,
        "steps of a second stage as a fraction of train.steps: it learns from the labels, and from masks of all "
        "training slices that the first stage makes",
        minimum=0,
        maximum=100,
        special="none",
    ),
    "optimizer": field("muon", "optimiser", choices=("muon", "adamw")),
    "learning_rate": field(
        1e-2, "peak learning rate; a step changes a parameter by about a fifth of it", above=0, maximum=1
    ),
    "warmup_steps": field(
        50, "steps of the linear rise to the peak, before the cosine decay to 0", minimum=0, maximum=MOST_STEPS
    ),
    "weight_decay": field(1e-4, "decoupled weight decay, a factor of the learning rate", **FRACTION),
    "clip_norm": field(1.0, "largest global norm of the gradient", above=0, maximum=1e9),
    "ema_fraction": field(
        0.03, "memory of the teacher, an exponential moving average, as a fraction of all steps", **FRACTION
    ),
    "ramp_fraction": field(
        1.0, "fraction of the steps over which the weights of unlabelled terms rise to their values", **FRACTION
    ),
    "log_every_steps": field(20, "steps between scalars in the logs", minimum=1, maximum=MOST_STEPS),
    "eval_every_steps": field(250, "steps between validations, with pictures", minimum=1, maximum=MOST_STEPS),
    "eval_slices": field(
        8, "validation slices scored while training, evenly spaced", minimum=0, maximum=1_000_000, special="all"
    ),
    "checkpoint_every_steps": field(
        250, "steps between checkpoints, from which a stopped training continues", minimum=1, maximum=MOST_STEPS
    ),
    "steps_per_call": field(
        1, "steps in one call of the device, which then waits less for the host", minimum=1, maximum=10_000
    ),
    "keep_checkpoints": field(
        2, "newest checkpoints that are kept, beside the best by validation", minimum=1, maximum=10_000
    ),
    "devices": field(
        0, "number of devices", minimum=0, maximum=1_000_000, special="as many as share the batches evenly"
    ),
}

PREDICT = {
    "input": field("", "path of the volume to segment", special="the test volume of the data set"),
    "output": field("", "path of the mask, .tif or .zarr; at s3:// or gs://, .zarr", special="RUN/prediction/mask.tif"),
    "voxel_nm": field("", "voxel size of the input", unit="nm", form=text_forms.VOXEL, special="that of the file"),
    "level": field(
        "auto",
        "level of an OME-Zarr or n5 pyramid that is read, 0 the finest; auto: the coarsest whose pixels are not larger "
        "than those of the training",
        form=text_forms.LEVEL,
    ),
    "full_size": field(
        False, "give the mask the voxels of level 0 where a coarser one is read: probabilities are interpolated"
    ),
    "region": field(
        "", "part of the volume to segment, in voxels of level 0", form=text_forms.BOX, special="all of it"
    ),
    "intensity_range": field(
        "",
        "intensities that become black and white",
        form=text_forms.INTENSITIES,
        special="from a sample of the volume",
    ),
    "shards": field(False, "zarr output: many chunks share a file of about 256 MB, for volumes of terabytes"),
    "probability": field(True, "also write the probability, 8-bit, beside the mask"),
    "threshold": field(
        0.0,
        "probability above which a pixel is a mitochondrion",
        special="calibrated or, for volumes of another kind, 0.4 (of single slices 0.5)",
        **PROBABILITY,
    ),
    "unsure_margin": field(
        0.0,
        "connected parts of the mask are left out if their mean probability is lower by more than this than that "
        "of the whole mask; not with a threshold from points or a fraction; 1: none",
        minimum=0,
        maximum=1,
        special="0.25 for volumes like those of the training, else 0.15, or 0.2 with planes=xyz",
    ),
    "foreground_fraction": field(
        0.0,
        "known fraction of the volume that is mitochondrion, such as 0.05, from which the threshold follows",
        special="not known",
        **PROBABILITY,
    ),
    "points": field("", "table of classified points of the volume, from which the threshold follows", special="none"),
    "edge_nm": field(
        0.0,
        "distance by which finished masks are grown or, below 0, shrunk, in all directions",
        unit="nm",
        minimum=-1000,
        maximum=1000,
    ),
    "weights": field(
        "teacher", "weights: averaged (teacher) or of the last step (student)", choices=("teacher", "student")
    ),
    "domain": field(
        "auto",
        "whether the volume is like those whose labels were learned, which sets the head and the threshold where these "
        "are left open: yes (training), no (other), or by its voxel size, intensities and detail (auto)",
        choices=("auto", "training", "other"),
    ),
    "prediction_head": field(
        "default",
        "prediction of the method; default: by the domain; some methods allow more, listed with their own fields",
        choices=("default",),
    ),
    "checkpoint": field("last", "checkpoint: the last, or the best by validation", choices=("last", "best")),
    "tile": field(1024, "largest side of a tile, at the training pixel size", unit="px", minimum=1, maximum=65536),
    "overlap": field(64, "border that neighbouring tiles share and blend", unit="px", minimum=0, maximum=65535),
    "batch": field(1, "tiles per device at a time", minimum=1, maximum=65536),
    "test_time_augmentation": field(False, "average over the 8 flips and turns; takes 8 times as long"),
    "z_smoothing_nm": field(
        20.0,
        "standard deviation of a Gaussian over the probabilities along z",
        unit="nm",
        minimum=0,
        maximum=10_000,
        special="off",
    ),
    "planes": field(
        "auto",
        "planes that are segmented: slices (xy), or those along all three axes, averaged (xyz), of nearly isotropic "
        "voxels, which takes 3 times as long; auto: xyz in such volumes where it pays, unless --cluster is given",
        choices=("auto", "xy", "xyz"),
    ),
    "window_px": field(
        2048,
        ".zarr: larger slices are predicted in windows of this side",
        unit="px",
        minimum=0,
        maximum=2**20,
        special="never",
    ),
    "task_slices": field(
        128, "--cluster: slices of one window that a task predicts", unit="slices", minimum=1, maximum=2**20
    ),
}

INSTANCES = {
    "input": field("", "path of a probability volume", special="that of the last prediction"),
    "output": field("", "path of the instances, .tif or .zarr", special="RUN/instances/instances.tif"),
    "image": field("", "path of the EM volume, for the picture", special="the volume that was segmented"),
    "threshold": field(
        0.0, "probability above which a voxel is a mitochondrion", special="that of the mask", **PROBABILITY
    ),
    "hole_um3": field(
        0.001,
        "enclosed background below this volume is filled",
        unit="um3",
        minimum=0,
        maximum=1e6,
        special="none",
    ),
    "neck_ratio": field(
        0.45,
        "instances part at a neck whose radius is at most this share of that of the thinner side",
        minimum=0,
        maximum=1,
        special="never",
    ),
    "neck_depth_nm": field(
        40.0,
        "least difference of the radii of neck and thinner side",
        unit="nm",
        minimum=0,
        maximum=1e5,
        special="never",
    ),
    "min_um3": field(0.001, "smaller instances are left out", unit="um3", minimum=0, maximum=1e6),
    "min_probability": field(
        0.65, "instances of a lower mean probability, of which the network is not sure, are left out", **PROBABILITY
    ),
    "box_px": field(
        0,
        "side of the boxes that the volume is worked through in; the result is the same",
        unit="px",
        minimum=16,
        maximum=2**20,
        special="as large as memory allows",
    ),
    "label": field("", "path of true instances to compare with", special="none"),
    "label_kind": field(
        "binary", "binary mask, divided by the same rules, or a number for each", choices=("binary", "instances")
    ),
}

SUGGEST = {
    "count": field(3, "slices or boxes to label next", minimum=1, maximum=100_000),
    "candidates": field(
        64, "unlabelled slices that are examined, evenly spaced", minimum=0, maximum=1_000_000, special="all"
    ),
    "box_px": field(0, "side of a box, in the volume", unit="px", minimum=16, maximum=2**20, special="whole slices"),
    "points": field(
        0, "points of the last prediction to classify by clicks", minimum=0, maximum=10_000, special="slices or boxes"
    ),
    "input": field("", "path of a probability volume for these points", special="that of the last prediction"),
}

EXPORT = {
    "to": field("files", "a folder of files, or a package for BioImage.IO as well", choices=("files", "bioimageio")),
    "license": field("", "licence of the weights, by its SPDX name, such as CC-BY-4.0", special="not stated"),
    "authors": field("", "who trained them: names, separated by commas", special="not stated"),
}

PROFILE = {
    "start_step": field(
        20, "first step of the profile, counted from 1; step 1 also compiles", minimum=1, maximum=MOST_STEPS
    ),
    "num_steps": field(
        0, "steps of the profile, written to RUN/profile", minimum=0, maximum=10_000, special="no profile"
    ),
}

FIELDS = {
    "size": field("tiny", "preset of pixel size, network, steps and batch, by machine", choices=tuple(SIZES)),
    "seed": field(0, "seed of every random number", minimum=0, maximum=LARGEST_SEED),
    "data": DATA,
    "augment": AUGMENT,
    "model": MODEL,
    "train": TRAIN,
    "predict": PREDICT,
    "instances": INSTANCES,
    "suggest": SUGGEST,
    "export": EXPORT,
    "profile": PROFILE,
}
