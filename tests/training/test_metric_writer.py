"""What a run tells about itself: the time of a step, and records that survive a kill."""

import json
import time

from dualrel_jax.training.metric_writer import StepTimer
from dualrel_jax.utils.jsonl import read_records


def test_a_lap_counts_the_steps_since_the_last_and_not_what_lies_between():
    timer = StepTimer(10)
    time.sleep(0.05)
    first = timer.lap(15)
    assert 0.01 <= first < 0.05  # five steps in 0.05 s
    time.sleep(0.2)  # a validation
    timer.start(15)
    time.sleep(0.05)
    assert timer.lap(20) < 0.05


def test_records_end_where_a_kill_cut_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_records(path) == []
    path.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 2}) + '\n{"step": 3, "lo')
    assert read_records(path) == [{"step": 1}, {"step": 2}]
