"""Classified points: the tables of several programs, and what is wrong with them in a sentence."""

import numpy as np
import pytest

from dualrel_jax.data.io.points import draw_discs, read_points, table_of_places
from dualrel_jax.errors import InputError

SHAPE = (10, 40, 50)
FORMS = {
    "plain.csv": "z,y,x,class\n3,5,7,1\n4,6,8,background\n",
    "semicolons.csv": "z;y;x;class\n3;5;7;mitochondrion\n4;6;8;0\n",
    "napari.csv": "index,axis-0,axis-1,axis-2,class\n0,3.0,5.2,6.9,1\n1,4.0,6.0,8.0,0\n",
    "fiji.csv": " ,X,Y,Slice,Counter\n1,7,5,4,1\n2,8,6,5,0\n",
    "fiji_labels.csv": " ,Label,X,Y,Slice,Counter\n1,vol.tif:0004,7,5,4,1\n2,vol.tif:0005,8,6,5,0\n",
    "fiji_frames.csv": " ,X,Y,Ch,Frame,Counter,Count\n1,7,5,1,4,1,8\n2,8,6,1,5,0,8\n",
    "fiji_both.csv": " ,X,Y,Ch,Slice,Frame,Counter\n1,7,5,1,1,4,1\n2,8,6,1,1,5,0\n",
    "webknossos.nml": '<things><thing name="mitochondrion"><nodes><node id="1" x="7" y="5" z="3"/></nodes></thing>'
    '<thing name="background"><nodes><node id="2" x="8" y="6" z="4"/></nodes></thing></things>',
}


@pytest.mark.parametrize("name", FORMS)
def test_each_programs_table_gives_the_same_points(name, tmp_path):
    (tmp_path / name).write_text(FORMS[name])
    points = read_points(tmp_path / name, SHAPE)
    assert points.zyx.tolist() == [[3, 5, 7], [4, 6, 8]]
    assert points.is_mitochondrion.tolist() == [True, False]
    assert points.drawn == ""


def test_a_table_of_places_is_read_back_once_it_is_filled_in(tmp_path):
    text = table_of_places(np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), "probability")
    lines = text.splitlines()
    lines[1], lines[2] = lines[1].replace(",,", ",1,"), lines[2].replace(",,", ",0,")
    (tmp_path / "points.csv").write_text("\n".join(lines))
    points = read_points(tmp_path / "points.csv", SHAPE)
    assert (len(points), points.without_class, points.drawn) == (2, 1, "probability")
    assert "1 more have no class" in points.describe()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has the columns none; expected a table with the columns z,y,x,class"),
        ("a,b,c\n1,2,3\n", "has the columns a, b, c"),
        ("z,y,x\n1,2,3\n", "no column for the class"),
        (" ,Label,X,Y,Slice,Counter\n1,vol.tif:0004,7,5,4,2\n", "line 2 has the class '2'; expected 1"),
        ("z,y,x,class,label\n1,2,3,nucleus,1\n", "line 2 has the class 'nucleus'; expected 1"),
        ("z,y,x,class\n1,2,3,nucleus\n", "line 2 has the class 'nucleus'; expected 1 or mitochondrion"),
        ("z,y,x,class\n1,2,here,1\n", "line 2 has the place 1, 2, here"),
        ("z,y,x,class\n1,2,3,1\n\n10,2,3,0\n", r"line 4 has the point 10, 2, 3 .* 10 x 40 x 50 voxels.*Set Scale"),
        ("z,y,x,class\n1,2,3,1\n2,2,3,\n", "no point on background among 1 classified"),
        (" ,X,Y,Slice,Counter\n1,7,5,0,1\n", "has the point -1, 5, 7"),
        ("z,y,x,class\n1,2,3,1\n1,2.4,3,0\n", "line 3 has the voxel 1, 2, 3 .*line 2 has with the other class"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(text, sentence, tmp_path):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_points(tmp_path / "points.csv", SHAPE)


def test_files_that_are_no_tables_are_explained(tmp_path):
    (tmp_path / "points.nml").write_text("<things>")
    (tmp_path / "points.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("points.nml", "points.csv", "missing.csv"):
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_points(tmp_path / name, SHAPE)


def test_points_outside_a_region_are_left_out(tmp_path):
    (tmp_path / "points.csv").write_text("z,y,x,class\n1,2,3,1\n1,4,3,0\n9,2,3,1\n")
    points = read_points(tmp_path / "points.csv", SHAPE)
    assert len(points.inside((slice(0, 2), slice(0, 40), slice(0, 50)))) == 2
    with pytest.raises(InputError, match="no point on background"):
        points.inside((slice(2, 10), slice(0, 40), slice(0, 50)))


def test_discs_have_the_class_of_their_point_and_end_at_the_border(tmp_path):
    (tmp_path / "points.csv").write_text("z,y,x,class\n3,0,7,1\n3,20,30,0\n")
    points = read_points(tmp_path / "points.csv", SHAPE)
    label = draw_discs(points, 3, SHAPE[1:], 2, 255)
    assert (label == 1).sum() == 9 and (label == 0).sum() == 13 and label[2, 7] == 1
    assert (draw_discs(points, 4, SHAPE[1:], 2, 255) == 255).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_where_discs_overlap_the_nearer_point_counts(tmp_path, order):
    lines = ["3,10,10,1", "3,10,12,0"]
    (tmp_path / "points.csv").write_text("\n".join(["z,y,x,class", *(lines[i] for i in order)]))
    label = draw_discs(read_points(tmp_path / "points.csv", SHAPE), 3, SHAPE[1:], 3, 255)
    assert (label[10, 7:16] == [1, 1, 1, 1, 255, 0, 0, 0, 0]).all()
