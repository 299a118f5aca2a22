"""Paths with a box, and what only looks like one."""

from pathlib import Path

import pytest

from dualrel_jax.data.io.box_path import file_and_box, split_box


def test_file_and_box(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, box = file_and_box("a.zarr[2:9,,5:]")
    assert (file, box[0], box[2].start) == (str(tmp_path / "a.zarr"), slice(2, 9), 5)
    assert box[1].start == 0 and box[1].stop > 2**40
    assert file_and_box("~/a.tif") == file_and_box(f"{Path.home()}/a.tif")
    assert file_and_box("s3://bucket/a.zarr[0:9]")[0] == "s3://bucket/a.zarr"
    (tmp_path / "slices[12]").mkdir()
    assert split_box("slices[12]") == ("slices[12]", None)


@pytest.mark.parametrize("box", ["[5]", "[9:4]", "[0:9,0:9]"])
def test_what_is_no_box_is_left_to_who_opens_it(box):
    file, whole = file_and_box(f"a.tif{box}")
    assert file.endswith(f"a.tif{box}") and whole[0].start == 0
