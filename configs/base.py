"""Every field that all methods share, once, with its unit. A method's config adds `config.method`.

A field that is `None` here is filled from the preset `SIZES[config.size]`, unless the command line sets it.
"""

from ml_collections import ConfigDict, config_dict

SIZES = {
    # 2 CPU cores, minutes.
    "tiny": {
        "data.pixel_nm": 20.0,
        "model.width": 16,
        "model.depth": 4,
        "model.dtype": "float32",
        "train.steps": 2000,
        "train.crop_px": 96,
        "train.batch_labelled": 4,
        "train.batch_unlabelled": 4,
    },
    # One small GPU or a Colab TPU, about an hour.
    "small": {
        "data.pixel_nm": 8.0,
        "model.width": 32,
        "model.depth": 5,
        "model.dtype": "bfloat16",
        "train.steps": 8000,
        "train.crop_px": 256,
        "train.batch_labelled": 8,
        "train.batch_unlabelled": 8,
    },
    # A data-centre GPU or a TPU slice, hours.
    "base": {
        "data.pixel_nm": 4.0,
        "model.width": 64,
        "model.depth": 5,
        "model.dtype": "bfloat16",
        "train.steps": 40000,
        "train.crop_px": 512,
        "train.batch_labelled": 8,
        "train.batch_unlabelled": 8,
    },
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    """`arg` is `data set[,labelled share]`: `lucchi,1/32`, `own,5`, `vnc,all`."""
    name, _, labelled = arg.partition(",")
    config = ConfigDict()
    config.size = "tiny"  # preset: tiny, small or base (see SIZES)
    config.seed = 0  # every random number derives from it
    config.data = _data(name, labelled or "1/32")
    config.augment = _augment()
    config.model = _model()
    config.train = _train()
    config.predict = _predict()
    config.instances = _instances()
    config.suggest = _suggest()
    config.profile = _profile()
    return config


def _data(name: str, labelled: str) -> ConfigDict:
    return ConfigDict(
        {
            "name": name,  # phantom, phantom_b, lucchi, lucchi_pp, mitoem_r, mitoem_h, vnc or own
            "dir": "data",  # folder that holds the public data sets, one folder each (data/lucchi, ...)
            "labelled": labelled,  # share of the training slices whose labels are used: 1/32, 1/2, all, or a count
            "partition": "uniform",  # how labelled slices are chosen: uniform (in z) or random
            "partition_seed": 0,  # for partition = random
            "partition_file": "",  # a partition.json of an earlier run, used as it is
            "train_slices": "",  # z range of the training block, "0:128"; empty: the data set's own
            "validation_slices": "",  # z range of the validation block, "133:165", or none; empty: the data set's own
            # In-plane pixel size for training, nm; a training volume of larger pixels keeps its own. 0: always its own.
            "pixel_nm": config_dict.placeholder(float),
            "image": "",  # own: path of the volume; several, separated by commas
            "label": "",  # own: path of its labels, a stack or a folder of some slices; of several, in the same order
            # own: z of each label slice, "3,40"; several volumes: "3,40;5"; empty: from file names, or non-empty slices
            "labelled_slices": "",
            "unlabelled": "",  # own: further volumes without labels, separated by commas
            "unlabelled_from": "",  # other data sets whose training slices join the unlabelled ones: vnc, vnc+lucchi
            "voxel_nm": "",  # own: voxel size "z,y,x" in nm, instead of what the file says; or one a volume, "a;b"
            "label_kind": "binary",  # own, test_label: binary (two values), instances (> 0) or grey (> 127)
            "ignore_value": -1,  # own, test_label: label value of pixels to leave out; -1: none
            "test_image": "",  # any labelled volume to test on, by path
            "test_label": "",  # its labels
            "test_voxel_nm": "",  # its voxel size "z,y,x" in nm, instead of what the file says
            "source": "files",  # files, or tfds (a data set made by `tfds build`)
            "tfds_dir": "",  # where tfds keeps its data sets; empty: its default
            "pipeline": "auto",  # resident (volume on the device), tf (tf.data), or auto: resident if it fits
            "resident_limit_mib": 4096,  # auto: largest volume kept on the device, MiB
            "cache_mib": 1024,  # tf: decoded slices kept in memory, MiB
            "foreground_crop_fraction": 0.2,  # fraction of labelled crops that must show a mitochondrion
        }
    )


def _augment() -> ConfigDict:
    return ConfigDict(
        {
            "flips": True,  # mirror and quarter turns, every crop
            "scale": (1.0, 1.0),  # zoom drawn log-uniformly from this range; (1, 1): off; (0.7, 1.4): other microscopes
            "elastic_px": 0.0,  # standard deviation of the displacement of control points, pixels; 0: off
            "elastic_grid_px": 32,  # largest spacing of these points, between which displacements vary smoothly, pixels
            # Photometric, on an intensity range of 0..1. Weak views use `weak` times these strengths.
            "weak": 0.0,  # strength of the weak view relative to the strong one
            "brightness": 0.25,  # added offset, uniform in +-
            "contrast": 0.5,  # factor around the mean, log-uniform in [1/(1 + c), 1 + c]
            "gamma": 0.5,  # exponent, log-uniform in [1/(1 + g), 1 + g]
            "blur_px": 1.5,  # largest standard deviation of a Gaussian blur, pixels
            "noise": 0.1,  # largest standard deviation of added Gaussian noise
            "probability": 0.6,  # chance that each photometric change is applied
        }
    )


def _model() -> ConfigDict:
    return ConfigDict(
        {
            "width": config_dict.placeholder(int),  # channels at full resolution, doubled at each level
            "depth": config_dict.placeholder(int),  # levels, the bottom included
            "norm": "group",  # group or batch
            "dtype": config_dict.placeholder(str),  # of the computation; parameters and losses are float32
        }
    )


def _train() -> ConfigDict:
    return ConfigDict(
        {
            "steps": config_dict.placeholder(int),  # optimiser steps
            "crop_px": config_dict.placeholder(int),  # side of a square crop, pixels
            "batch_labelled": config_dict.placeholder(int),  # labelled crops a step, over all devices
            "batch_unlabelled": config_dict.placeholder(int),  # unlabelled crops a step, over all devices
            "optimizer": "muon",  # muon or adamw
            "learning_rate": 1e-2,  # peak; a step changes a parameter by about a fifth of it
            "warmup_steps": 50,  # linear rise to the peak, then cosine decay to 0
            "weight_decay": 1e-4,  # decoupled: times the learning rate, of parameters AdamW moves a fifth of it
            "clip_norm": 1.0,  # largest global norm of the gradient
            "ema_fraction": 0.03,  # memory of the teacher, a moving average, as a fraction of all steps
            "ramp_fraction": 1.0,  # fraction of the steps over which the weights of unlabelled terms rise
            "log_every_steps": 20,  # scalars to metrics.jsonl and TensorBoard
            "eval_every_steps": 250,  # validation, with pictures
            "eval_slices": 8,  # validation slices scored while training, spread over z; 0: all
            "checkpoint_every_steps": 250,  # a checkpoint a restart continues from
            "steps_per_call": 1,  # steps in one call of the device, which then waits less for the host between them
            "keep_checkpoints": 2,  # newest ones kept, beside the best by validation
            "devices": 0,  # number of devices used; 0: all
        }
    )


def _predict() -> ConfigDict:
    return ConfigDict(
        {
            "input": "",  # a volume to segment; empty: the data set's test volume
            "output": "",  # .tif or .zarr of the mask; empty: <workdir>/prediction/mask.tif
            "voxel_nm": "",  # voxel size "z,y,x" in nm of the input, instead of what the file says
            "region": "",  # the part to segment, "z0:z1,y0:y1,x0:x1" in voxels, as in "10:20,,"; empty: all
            "intensity_range": "",  # "low,high": intensities that become black and white; empty: from a sample
            "probability": True,  # also write the probability, 8-bit, beside the mask
            "threshold": 0.0,  # probability above which a pixel is a mitochondrion; 0: by the domain, calibrated or 0.5
            "foreground_fraction": 0.0,  # instead: known fraction of mitochondrion in the volume, 0.05
            "weights": "teacher",  # teacher (averaged) or student
            # Is the volume like those whose labels were learned? training: yes; other: no; auto: by voxel size, greys
            # and detail. Decides on the head and the threshold where these fields leave them open.
            "domain": "auto",
            "prediction_head": "default",  # which of the method's predictions: default (by the domain), head, ...
            "checkpoint": "last",  # last, or best (by validation)
            "tile": 1024,  # largest side of a tile, pixels at the training pixel size
            "overlap": 64,  # blended border shared by neighbouring tiles, pixels
            "batch": 1,  # tiles at a time on each device
            "test_time_augmentation": False,  # average over the 8 flips and turns: 8 times slower
            "z_smoothing_nm": 20.0,  # standard deviation of a Gaussian over the probabilities along z, nm; 0: off
            "orthogonal_planes": False,  # mean over slices along all three axes (isotropic voxels); 3 times slower
            "window_px": 2048,  # .zarr: larger slices are predicted in windows of this side, pixels; 0: never
        }
    )


def _instances() -> ConfigDict:
    return ConfigDict(
        {
            "input": "",  # a probability volume; empty: <workdir>/prediction/mask_probability.tif
            "output": "",  # .tif or .zarr of the numbers; empty: <workdir>/instances/instances.tif
            "image": "",  # the EM volume, for the picture; empty: the one that was segmented
            "threshold": 0.0,  # probability above which a voxel is a mitochondrion; 0: that of the mask
            "hole_um3": 0.001,  # enclosed background below this volume is filled, um3; 0: none
            "seed_depth_nm": 60.0,  # a neck thinner by this radius than both sides parts two instances, nm; 0: never
            "min_um3": 0.001,  # smaller instances are left out, um3
            "label": "",  # true instances to compare with; empty: none
            "label_kind": "binary",  # instances (a number each), or binary (> 0, parted by the same rules)
        }
    )


def _suggest() -> ConfigDict:
    return ConfigDict(
        {
            "count": 3,  # slices or boxes to label next
            "candidates": 64,  # unlabelled slices looked at, evenly spread; 0: all
            "box_px": 0,  # side of a box, pixels of the volume; 0: whole slices
        }
    )


def _profile() -> ConfigDict:
    return ConfigDict(
        {
            "start_step": 20,  # first step of a profile, from 1; the very first also compiles
            "num_steps": 0,  # steps of a profile, written to <workdir>/profile; 0: none
        }
    )
