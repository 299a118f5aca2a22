"""The values of `preset` fields by `config.size`."""

SIZES = {
    # 2 CPU cores, half an hour. Cells of 20 nm in all volumes; a DualRel step takes 0.75 s of CPU.
    "tiny": {
        "data.pixel_nm": 5.0,
        "data.upsample": True,
        "model.stem": 4,
        "model.width": 32,
        "model.depth": 3,
        "model.dtype": "float32",
        "train.steps": 2000,
        "train.crop_px": 256,
        "train.batch_labelled": 4,
        "train.batch_unlabelled": 4,
    },
    # One small GPU or a Colab TPU, about an hour.
    "small": {
        "data.pixel_nm": 8.0,
        "data.upsample": False,
        "model.stem": 1,
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
        "data.upsample": False,
        "model.stem": 1,
        "model.width": 64,
        "model.depth": 5,
        "model.dtype": "bfloat16",
        "train.steps": 40000,
        "train.crop_px": 512,
        "train.batch_labelled": 8,
        "train.batch_unlabelled": 8,
    },
}
