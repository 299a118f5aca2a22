"""What a run tells about itself: the time of a step, and records that survive a kill."""

import json
import time

from dualrel_jax.training.metric_writer import MetricLogger, StepTimer, TrainingProgress
from dualrel_jax.utils.jsonl import read_records


def test_a_lap_counts_the_steps_since_the_last_and_not_what_lies_between():
    timer = StepTimer(10)
    time.sleep(0.05)
    first = timer.lap(15)
    assert 0.01 <= first["seconds_per_step"] < 0.05  # five steps in 0.05 s
    assert 0 <= first["cpu_seconds_per_step"] < 0.01  # asleep
    time.sleep(0.2)  # a validation
    timer.start(15)
    time.sleep(0.05)
    assert timer.lap(20)["seconds_per_step"] < 0.05


def test_records_end_where_a_kill_cut_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_records(path) == []
    path.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 2}) + '\n{"step": 3, "lo')
    assert read_records(path) == [{"step": 1}, {"step": 2}]


def test_what_is_not_finite_is_left_out_of_a_record(tmp_path):
    logger = MetricLogger(tmp_path, 0)
    logger.write(1, {"loss": float("nan"), "norm": 2.0})
    logger.close()
    assert read_records(logger.path) == [{"step": 1, "norm": 2.0}]


def test_progress_is_a_line_for_each_state_where_there_is_no_terminal(capsys):
    progress = TrainingProgress(steps=6, every_s=0.0)
    progress.update(2, "loss 0.900")
    progress.write(2, "JAC 0.500 on validation slices")
    progress.update(6, "loss 0.100")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 2/6: loss 0.900") and lines[-1].startswith("step 6/6: loss 0.100")
    assert "left" in lines[0] and "left" not in lines[-1]
    assert lines.count("step 2/6: JAC 0.500 on validation slices") == 1
    assert len(lines) == 3


def test_a_training_of_one_report_has_one_line_without_the_time_left(capsys):
    TrainingProgress(steps=2).update(2, "loss 0.100")
    assert capsys.readouterr().out.splitlines() == ["step 2/2: loss 0.100"]


def test_other_hosts_than_the_first_show_no_progress(monkeypatch, capsys):
    monkeypatch.setattr("dualrel_jax.training.metric_writer.is_first_host", lambda: False)
    progress = TrainingProgress(steps=2)
    for step in (1, 2):
        progress.update(step, "loss 0.100")
    assert capsys.readouterr().out == ""


def test_progress_is_rare_but_for_its_last_line(capsys):
    progress = TrainingProgress(steps=100, every_s=60.0)
    for step in range(1, 101):
        progress.update(step, f"loss {step}")
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "step 1/100: loss 1",
        "step 100/100: loss 100",
    ]
