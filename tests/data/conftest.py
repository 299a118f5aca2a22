import pytest
import tifffile
from tiny import config, volume, write_slices


@pytest.fixture
def own(tmp_path):
    """A function that writes image and label and returns the config; label may be an array, or {file name: slice}."""

    def write(label, slices=24, **fields):
        image, _ = volume(slices)
        tifffile.imwrite(tmp_path / "image.tif", image, photometric="minisblack")
        path = tmp_path / "label.tif"
        if isinstance(label, dict):
            path = tmp_path / "labels"
            write_slices(path, label.values(), label.keys())
        else:
            tifffile.imwrite(path, label, photometric="minisblack")
        return config("own", "all", image=str(tmp_path / "image.tif"), label=str(path), **fields)

    return write
