"""Quality over CPU-minutes: tools see nothing of what is scored, keep to the budget, and nothing is measured twice."""

import json
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from dualrel_jax.errors import InputError
from perf.time_to_quality import __main__ as program
from perf.time_to_quality import task as task_lib
from perf.time_to_quality import tools


@pytest.fixture
def data(tmp_path):
    """A folder with a Lucchi volume whose voxels name their place: bright where the validation region is."""
    folder = tmp_path / "data" / "lucchi"
    folder.mkdir(parents=True)
    image = np.full((165, 16, 1024), 50, np.uint8)
    image[133:, :, 736:] = 250
    label = np.zeros_like(image)
    label[:, 4:12, 100:900] = 255
    for name, volume in (("training", image), ("training_groundtruth", label)):
        tifffile.imwrite(folder / f"{name}.tif", volume, compression="zlib")
    return tmp_path / "data"


def test_files_of_the_task_show_nothing_that_is_scored(data, tmp_path):
    task = task_lib.write_task(str(data), tmp_path / "task")
    volume = tifffile.imread(task.folder / "volume.tif")
    assert volume.shape == (128, 16, 704) and volume.max() == 50
    assert [path.stem for path in sorted((task.folder / "images").iterdir())] == ["012", "038", "064", "089", "115"]
    assert {np.asarray(Image.open(path)).max() for path in (task.folder / "masks").iterdir()} == {255}
    assert tifffile.imread(task.folder / "stack.tif").shape == (32, 16, 1024)
    assert task.scored == [0, 8, 16, 24] and task.columns == slice(736, 1024)


def test_only_the_region_held_out_is_scored(data, tmp_path):
    task = task_lib.write_task(str(data), tmp_path / "task")
    masks = np.zeros((4, 16, 1024), np.uint8)
    masks[:, :, :736] = 1  # beside the region
    masks[:, 4:12, 736:818] = 255  # half of the mitochondrion within it, which ends at 900
    score = task.score(masks)
    assert score == pytest.approx({"jac": 0.5, "precision": 1.0, "recall": 0.5})


def test_steps_fill_the_budget_beside_what_a_training_costs_once():
    assert tools.Cost(once=30, step=0.5).steps(5) == 540
    assert tools.Cost(once=30, step=80).steps(0.5) == 1


def test_the_longest_training_says_what_a_step_costs():
    short = {"once": 10.0, "step": 8.0}
    assert program.cost_of({"cost": short, "runs": {}}) == tools.Cost(10, 8)
    runs = {"5": {"steps": 30, "cpu_minutes": 4, "step_cpu_seconds": 6}}
    runs["10"] = {"steps": 100, "cpu_minutes": 9, "step_cpu_seconds": 5}
    assert program.cost_of({"cost": short, "runs": runs}) == tools.Cost(40, 5)


def test_a_comparison_continues_where_it_ended(data, tmp_path, monkeypatch):
    trained = []

    def train(tool, task, folder, steps, pythons):
        trained.append((tool.program, folder.name))
        return 60.0 * steps, 60.0, {"steps": steps}

    monkeypatch.setattr(tools, "train", train)
    monkeypatch.setattr(tools, "predict", lambda *_: (np.ones((4, 16, 1024)), 1.0))
    words = ["--data", str(data), "--output", str(tmp_path / "out"), "--tools", "dualrel", "supervised", "--budgets"]
    assert program.main([*words, "2"]) == 0
    assert trained == [("dualrel", "measure"), ("dualrel", "2"), ("supervised", "measure"), ("supervised", "2")]
    trained.clear()
    assert program.main([*words, "2", "4"]) == 0
    assert trained == [("dualrel", "4"), ("supervised", "4")]
    record = json.loads((tmp_path / "out" / "time_to_quality.json").read_text())
    assert (
        record["tools"]["dualrel"]["runs"]["4"] | {"steps": 4, "cpu_minutes": 4.0}
        == (record["tools"]["dualrel"]["runs"]["4"])
    )
    assert (tmp_path / "out" / "time_to_quality.png").stat().st_size > 1000


def test_a_tool_needs_its_interpreter(data, tmp_path, capsys):
    words = ["--data", str(data), "--output", str(tmp_path / "out"), "--tools", "nnunet"]
    assert program.main(words) == 2
    assert "--python nnunet=PATH" in capsys.readouterr().err


def test_cpu_time_is_that_of_the_program_and_its_children(tmp_path):
    busy = "import time, subprocess, sys\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
    child = f"{busy}\nif len(sys.argv) == 1: subprocess.run([sys.executable, __file__, 'child'])"
    (tmp_path / "busy.py").write_text(child)
    assert 0.4 <= tools.run([sys.executable, str(tmp_path / "busy.py")], tmp_path / "log.txt") < 2
    with pytest.raises(InputError, match=r"ended with 3"):
        tools.run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log.txt")
