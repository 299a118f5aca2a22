"""The flags of small commands on the shared volumes."""

import pytest


@pytest.fixture(scope="session")
def training_flags(volume_files):
    """A training of a few steps that saves every third one."""
    return [
        "--config=configs/supervised.py:own,1/3",
        f"--config.data.image={volume_files['train_image']}",
        f"--config.data.label={volume_files['train_label']}",
        "--config.data.train_region=0:9",
        "--config.data.validation_region=none",
        "--config.data.pixel_nm=0",
        "--config.model.width=4",
        "--config.model.depth=2",
        "--config.model.dtype=float32",
        "--config.train.optimizer=adamw",
        "--config.train.crop_px=32",
        "--config.train.batch_labelled=4",
        "--config.train.batch_unlabelled=4",
        "--config.train.devices=1",
        "--config.train.steps=24",
        "--config.train.log_every_steps=2",
        "--config.train.checkpoint_every_steps=3",
        "--mode=train",
    ]


@pytest.fixture(scope="session")
def prediction_flags(volume_files):
    return [
        "--mode=predict",
        f"--config.predict.input={volume_files['test_image']}",
        "--config.predict.voxel_nm=20,20,20",
        "--config.predict.threshold=0.5",
        "--config.predict.tile=32",
        "--config.predict.overlap=8",
        "--config.predict.window_px=16",
        "--config.train.devices=1",
    ]
