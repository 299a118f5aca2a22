import json
import re

import pytest
from pixels import read

from dualrel_jax.visualization.plots import training_curves

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def picture(tmp_path):
    return tmp_path / "pictures" / "picture.png"


def run_records():
    for step in range(20, 401, 20):
        yield {
            "step": step,
            "train/loss": 2.0**-step,
            "train/loss_supervised": 0.5,
            "train/consistency_weight": step / 400,
        }
        if step % 100 == 0:
            yield {
                "step": step,
                "validation/jac_pooled": step / 500,
                "validation/slices": 32,
                "validation/dsc_pooled": None,
            }


def test_curves_from_file_and_records_agree(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join(map(json.dumps, run_records())) + '\n{"step": 420, "train/lo')  # killed while writing
    from_file, from_records = (
        training_curves(file, tmp_path / "file.png"),
        training_curves(run_records(), tmp_path / "records.png"),
    )
    assert (read(from_file) == read(from_records)).all()


def test_a_repeated_step_counts_once(tmp_path):
    records = list(run_records())
    wrong = [{"step": 40, "train/loss": 1e6, "train/consistency_weight": float("nan")}, {"step": 60, "train/loss": 1e6}]
    plain = read(training_curves(records, tmp_path / "plain.png"))
    assert (read(training_curves(wrong + records, tmp_path / "continued.png")) == plain).all()
    assert (read(training_curves(records + wrong, tmp_path / "other.png")) != plain).any()


def test_the_star_marks_the_checkpoint_that_is_kept(tmp_path):
    """By the calibrated score, where a validation has one."""

    def curves(name, *calibrated):
        scores = zip((10, 20), (0.8, 0.7), calibrated, strict=True)
        records = [{"step": at, "validation/jac_pooled": p, "validation/jac_calibrated": c} for at, p, c in scores]
        text = (training_curves(records, tmp_path / f"{name}.svg")).read_text()
        return re.findall(r"<!-- (.*best.*) -->", text)

    assert curves("second", 0.6, 0.9) == ["JAC calibrated (best 0.900 at step 20)"]
    assert curves("first", 0.9, 0.6) == ["JAC calibrated (best 0.900 at step 10)"]


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"step": 20, "train/loss": 0.0}],
        [{"step": 20, "train/loss": float("nan")}],
        [{"step": 250, "validation/jac_pooled": 0.5}],
        [{"step": 20, "train/learning_rate": 1e-3}, {"step": 20, "seconds": 3}],
        [{"step": step, "train/loss": -1.0 + step % 7, "note": "text"} for step in range(500)],
    ],
)
def test_curves_of_little_or_odd_data(picture, records):
    assert (read(training_curves(records, picture)) < 128).any()
