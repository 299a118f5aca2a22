"""Measurements of an accelerator: each part ends by itself or at its limit, and nothing that was measured is lost."""

import json
from pathlib import Path

import pytest

from perf import device


def test_a_part_that_fails_or_takes_too_long_costs_no_other(tmp_path, monkeypatch):
    def part(name, code, limit_s=480, run=None):
        return device.Part(name, f"{name}?", ["-c", code], limit_s, run)

    def parts(output, data, quick):
        (output / "train").mkdir()
        yield part("long", "import time; print('begun'); time.sleep(99)", limit_s=40)
        yield part("wrong", "raise SystemExit('no such device')")
        records = [{"step": step, "speed/seconds_per_step": pace} for step, pace in ((10, 0.5), (20, 0.2), (30, 0.1))]
        records[-1] |= {"train/loss": 0.25, "train/skipped_steps": 2}
        (output / "train" / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
        yield part("train", "print('trained')", run=output / "train")
        monkeypatch.setattr(device, "LEAST_S", 99)
        yield part("late", "print('too late')")

    monkeypatch.setattr(device, "parts", parts)
    output = tmp_path / "device"
    device.measure(output, "data", 36, quick=True)
    summary = json.loads((output / "summary.json").read_text())
    ends = {name: result["end"] for name, result in summary.items()}
    assert ends == {"long": "stopped at its limit", "wrong": "failed", "train": "done", "late": "no time left"}
    assert summary["long"]["seconds"] < 20
    assert (output / "long.txt").read_text().startswith("begun")
    assert (output / "wrong.txt").read_text() == "no such device\n"
    measured = {"steps": 30, "loss": 0.25, "steps not finite": 2, "seconds per step": 0.2}
    assert {key: summary["train"][key] for key in measured} == measured


def test_the_parts_have_names_of_their_own_and_toys_are_small(tmp_path):
    every = list(device.parts(tmp_path, "", quick=True))
    assert len({part.name for part in every}) == len(every)
    assert all("--config.model.width=4" in part.argv for part in every if part.run)


@pytest.mark.slow  # torch.compile alone takes more than a minute of a core
def test_every_part_runs_at_toy_size(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(Path(__file__).parents[2])
    ends = device.measure(tmp_path / "device", "", 1800, quick=True)
    assert {name: end["end"] for name, end in ends.items()} == dict.fromkeys(ends, "done")
