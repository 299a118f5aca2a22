"""The benchmark over several domains: which trials there are, equal CPU-minutes, and tables of invented counts."""

import csv
import io
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from dualrel_jax import config as config_lib
from dualrel_jax.benchmark import __main__ as benchmark
from dualrel_jax.benchmark import budget, domain_tables, scheduler, statistics, tables
from dualrel_jax.benchmark.domain_statistics import QUESTIONS, compare_domains, mean_ranks
from dualrel_jax.benchmark.plan import collect, on_disk, plan, plan_measurements
from dualrel_jax.config.text_forms import BOX
from dualrel_jax.data.datasets import registry
from dualrel_jax.data.datasets.labels import fully_labelled
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference.choice import Choice
from dualrel_jax.main import parse

ROWS = {"supervised": "Supervised", "cps": "CPS", "dualrel": "DualRel"}
DOMAINS = ["here", "there"]
HITS = {"supervised": 40, "cps": 50, "dualrel": 60}  # of 100 true pixels in every slice


def settings(seeds=2, **fields):
    return {
        "domains": {name: {} for name in DOMAINS},
        "base": {"predict": {"weights": "teacher"}, "data": {"name": "here"}},
        "rows": {key: {"title": title} for key, title in ROWS.items()},
        "labelled": "1",
        "seeds": seeds,
        "cpu_minutes": 0.0,
        "foreign_slices": 3,
        **fields,
    }


def summary(hits, slices=3):
    counts = [[z, hits, 0, 100 - hits, 900] for z in range(slices)]
    return {"jac_pooled": hits / 100, "counts": counts}


def cell(row, domain, seed, hits=None):
    """A trial that finds `hits` of 100 pixels in-domain, 20 less elsewhere, and 10 more as masks of `predict`."""
    hits = HITS[row] + (hits or 0)
    found = {domain: {"parts": [], "teacher": summary(hits), "masks": summary(hits + 10)}}
    elsewhere = {"parts": [], "teacher": summary(hits - 20), "masks": summary(hits - 10)}
    found |= {name: elsewhere for name in DOMAINS if name != domain}
    cost = {"steps": 120, "cpu_seconds_per_step": 0.5, "pixel_nm": [5.0, 5.0]}
    return {"domain": domain, "row": row, "labelled": "1", "seed": seed, "targets": found, **cost}


def grid(seeds=2):
    """The second domain is 10 pixels harder; each seed finds 2 more; in the second domain CPS is 4 better."""
    return [
        cell(row, domain, seed, 2 * seed - 10 * (domain == "there") + 4 * ((row, domain) == ("cps", "there")))
        for row, domain, seed in itertools.product(ROWS, DOMAINS, range(seeds))
    ]


def entry_of(entries, row, question="slices"):
    return next(entry for entry in entries if (entry.row, entry.question) == (row, question))


# ---------------------------------------------------------------------------------------------------------------------
# Statistics
# ---------------------------------------------------------------------------------------------------------------------


def test_means_and_differences_are_those_of_the_counts():
    entries = compare_domains(settings(), grid())
    own = entry_of(entries, "dualrel")
    assert own.domains == {"here": (61.0, pytest.approx(2**0.5)), "there": (51.0, pytest.approx(2**0.5))}
    assert own.mean == (pytest.approx(56.0), pytest.approx(2**0.5)) and own.seeds == 2 and own.difference is None
    assert (own.steps, own.cpu_minutes) == (120, 1.0)
    assert entry_of(entries, "dualrel", "masks").mean[0] == pytest.approx(66.0)
    cross = entry_of(entries, "dualrel", "cross")
    assert cross.mean[0] == pytest.approx(36.0)
    assert entry_of(entries, "dualrel", "cross_masks").mean[0] == pytest.approx(46.0)
    assert cross.pairs.keys() == {("here", "there"), ("there", "here")}
    value, low, high = entry_of(entries, "cps").difference
    assert value == pytest.approx(8.0)  # 10 here, 6 there, however many slices each has
    assert (low, high) == (pytest.approx(8 - 12.706 * 2, abs=0.01), pytest.approx(8 + 12.706 * 2, abs=0.01))
    assert entry_of(entries, "cps", "cross").difference[1:] == (None, None)  # means that share volumes are no sample


def test_ranks_are_means_over_domains_and_seeds():
    ranks = mean_ranks({"a": {1: 0.9, 2: 0.5}, "b": {1: 0.8, 2: 0.6}, "c": {1: 0.8, 2: 0.1}})
    assert ranks == {"a": 1.5, "b": (2.5 + 1) / 2, "c": (2.5 + 3) / 2}
    assert mean_ranks({"a": {1: 0.9}, "b": {1: 0.8, 2: 0.6}}) == {}
    entries = compare_domains(settings(), grid())
    assert [entry.rank for entry in entries if entry.question == "cross"] == [3.0, 2.0, 1.0]


def test_the_interval_over_domains_is_students():
    value, low, high = statistics.mean_difference([4.0, 2.0, 3.0, 7.0])
    assert value == 4.0
    expected = scipy.stats.t.interval(0.95, 3, loc=4.0, scale=scipy.stats.sem([4.0, 2.0, 3.0, 7.0]))
    assert (low, high) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert statistics.mean_difference([4.0]) is None


def test_the_interval_over_domains_holds_the_true_mean():
    draws = np.random.default_rng(0).normal(1.0, 2.0, (600, 4))
    held = [low <= 1.0 <= high for _, low, high in map(statistics.mean_difference, draws.tolist())]
    assert 0.92 <= np.mean(held) <= 0.98


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------


def test_a_table_a_question_reads_back():
    config, cells = settings(), grid()
    entries = compare_domains(config, cells)
    made = domain_tables.make_tables(config, cells, entries)
    assert [table.title for table in made] == [f"{title}: 1 labelled slice" for title in QUESTIONS.values()]
    first = made[0]
    assert first.groups[0][1] == ["Method", "mean", *DOMAINS, "rank", "DualRel − method", "steps", "CPU min"]
    rows = {row[0]: row[1:] for row in first.rows}
    assert rows["CPS"] == ["48.0 ± 1.4", "51.0 ± 1.4", "45.0 ± 1.4", "2.0", "+8.0 (−17.4 to +33.4)", "120", "1"]
    assert rows["DualRel"][4] == ""
    assert first.bold == {(2, column) for column in range(1, 5)}
    for block in tables.markdown(made).split("## ")[1:]:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
    lines = list(csv.DictReader(io.StringIO(domain_tables.csv_text(entries))))
    assert len(lines) == 3 * (3 + 3 + 5 + 5)
    pair = next(
        line for line in lines if (line["row"], line["scored_on"], line["question"]) == ("cps", "there", "cross")
    )
    assert (pair["trained_on"], float(pair["jac_percent"])) == ("here", 31.0)


def test_what_is_not_finished_is_no_part_of_a_mean():
    cells = [c for c in grid(3) if (c["row"], c["domain"], c["seed"]) != ("dualrel", "there", 2)]
    cells = [c for c in cells if (c["row"], c["domain"]) != ("supervised", "there")]
    config = settings(seeds=3)
    entries = compare_domains(config, cells)
    assert entry_of(entries, "dualrel").seeds == 2 and entry_of(entries, "supervised").mean is None
    assert entry_of(entries, "dualrel").rank is None and entry_of(entries, "supervised").difference is None
    assert entry_of(entries, "cps").difference[0] == pytest.approx(8.0)  # over the seeds that both have
    table = domain_tables.make_tables(config, cells, entries)[0]
    rows = {row[0]: row for row in table.rows}
    assert rows["DualRel"][1] == "56.0 ± 1.4 (2)" and rows["Supervised"][1:4] == ["–", "42.0 ± 2.0", "–"]
    assert "3 seeds" in table.notes[-1]


# ---------------------------------------------------------------------------------------------------------------------
# Trials
# ---------------------------------------------------------------------------------------------------------------------


def config_of(tmp_path, *flags, arg="fly_brain+vnc"):
    _, config = parse([f"--config=configs/domains.py:{arg}", f"--workdir={tmp_path}", *flags])
    return config


def test_every_method_trains_alike_in_every_domain(tmp_path):
    config = config_of(tmp_path, "--config.only=supervised,dualrel", "--config.seeds=2", arg="")
    trials = plan(config, tmp_path)
    assert len({trial.folder for trial in trials}) == len(trials) == 4 * 2 * 2 * 2
    assert [trial.domain for trial in trials[:4]] == ["lucchi", "fly_brain", "glycolytic_muscle", "vnc"]
    for trial in trials:
        data = trial.config.data
        assert trial.scoring["targets"][0] == data.name == trial.domain and len(trial.scoring["targets"]) == 4
        assert trial.scoring["masks"] and trial.scoring["foreign_slices"] == 12
        assert BOX.accepts(data.train_region) and BOX.accepts(data.validation_region)
        trial.config.unlock().data = trial.config.unlock().method = None
    plain = [{**trial.config.to_dict(), "seed": 0} for trial in trials]
    assert all(other == plain[0] for other in plain)
    assert "domain" in str(trials[0]) or str(trials[0]).startswith("lucchi, supervised, 1 labelled")


def test_an_ablation_over_domains_and_wrong_arguments(tmp_path):
    config = config_of(tmp_path, arg="vnc,rows=ablation")
    assert list(config.rows)[0] == "dualrel" and "direct" in config.rows and list(config.domains) == ["vnc"]
    for arg in ("lucky", "vnc+vnc", "vnc,rows=all"):
        with pytest.raises(InputError, match="configs/domains.py is .*; expected domains, joined by"):
            config_of(tmp_path, arg=arg)


def test_equal_cpu_minutes_give_cheap_methods_more_steps(tmp_path):
    flags = ["--config.only=supervised,dualrel", "--config.cpu_minutes=10", "--config.seeds=1", "--config.labelled=1"]
    config = config_of(tmp_path, *flags)
    first = plan_measurements(config, tmp_path)
    assert list(first) == ["supervised", "dualrel"]
    assert {trial.config.train.steps for trial in first.values()} == {budget.MEASURED_STEPS}
    assert {trial.config.data.validation_region for trial in first.values()} == {"none"}
    with pytest.raises(InputError, match="step_seconds.json has no CPU seconds of a step of supervised"):
        plan(config, tmp_path)
    budget.save(tmp_path, {"supervised": 0.25, "dualrel": 0.801})
    assert plan_measurements(config, tmp_path) == {}
    steps = {trial.row: trial.config.train.steps for trial in plan(config, tmp_path)}
    assert steps == {"supervised": 2400, "dualrel": 750}
    elsewhere = config_of(tmp_path / "b", *flags, f"--config.step_seconds={tmp_path / 'step_seconds.json'}")
    assert {trial.row: trial.config.train.steps for trial in plan(elsewhere, tmp_path / "b")} == steps
    (done,) = plan(config_of(tmp_path, *flags[1:], "--config.only=dualrel", arg="vnc"), tmp_path)
    done.folder.mkdir(parents=True)
    names = {"row": "dualrel", "labelled": "1", "seed": 0, "scoring": {}, "targets": {}, "wall_seconds": 1.0}
    (done.folder / "scores.json").write_text(json.dumps({**names, "steps": 750}))
    (tmp_path / "step_seconds.json").write_text(json.dumps({"supervised": 0.25}))
    config.step_seconds = str(tmp_path / "step_seconds.json")
    assert [trial.config.train.steps for trial in on_disk(config, tmp_path)] == [750]  # DualRel is not run now
    config.step_seconds = ""
    (tmp_path / "step_seconds.json").write_text(json.dumps({"supervised": 0}))
    with pytest.raises(InputError, match="supervised = 0; expected CPU seconds"):
        plan(config, tmp_path)


def test_randomly_labelled_slices_follow_the_seed(tmp_path):
    flags = ["--config.only=supervised", "--config.seeds=3", "--config.labelled=1"]
    for partition, seeds in (("random", [0, 1, 2]), ("uniform", [0, 0, 0])):
        config = config_of(tmp_path, *flags, f"--config.base.data.partition={partition}", arg="vnc")
        assert [trial.config.data.partition_seed for trial in plan(config, tmp_path)] == seeds


def test_finished_trials_are_collected_with_their_domain(tmp_path):
    config = config_of(tmp_path, "--config.only=supervised", "--config.seeds=1", "--config.labelled=1")
    done = plan(config, tmp_path)[1]
    record = {"z": 1, "tp": 1, "fp": 0, "fn": 0, "tn": 9}
    scored = {"jac_pooled": 1.0, "records": [record]}
    targets = {"vnc": {"parts": [], "teacher": scored, "masks": scored}, "fly_brain": {"parts": [], "teacher": scored}}
    names = {"row": done.row, "labelled": done.labelled, "seed": done.seed, "scoring": done.scoring}
    done.folder.mkdir(parents=True)
    (done.folder / "scores.json").write_text(json.dumps({**names, "targets": targets, "wall_seconds": 1.0}))
    assert [trial.is_finished() for trial in plan(config, tmp_path)] == [False, True]
    (found,) = collect(config, tmp_path)
    assert found["domain"] == "vnc" and found["targets"]["vnc"]["masks"]["counts"] == [[1, 1, 0, 0, 9]]


def test_a_trial_scores_what_the_protocol_asks_for(monkeypatch):
    from dualrel_jax.benchmark import trial

    asked = []

    def score(predictor, variables, parts, threshold, *, max_slices, show):
        asked.append((parts[0].name, max_slices))
        return SimpleNamespace(summary=dict, records=[], threshold=threshold), []

    def score_masks(run, parts, all_planes=False):
        asked.append((parts[0].name, "masks of all planes" if all_planes else "masks"))
        return SimpleNamespace(summary=dict, records=[], threshold=0.7), "prototypes"

    choice = Choice("default", None, 0.5, "")
    monkeypatch.setattr(trial, "score", score)
    monkeypatch.setattr(trial, "score_masks", score_masks)
    monkeypatch.setattr(trial, "choose_for_parts", lambda run, parts: choice)
    monkeypatch.setattr(trial.run, "load_run", lambda folder, config: SimpleNamespace(variables={}))
    config = config_lib.get_config("supervised:vnc,1")
    parts = {name: (SimpleNamespace(name=name),) for name in ("vnc", "lucchi")}
    scoring = {"masks": True, "foreign_slices": 7}
    targets = trial.score_parts(Path(), config, None, parts, scoring, regions={})
    assert asked == [("vnc", 0), ("vnc", "masks"), ("lucchi", 7)]  # and the student's weights not at all
    assert targets["vnc"]["masks"] == {"prediction_head": "prototypes", "threshold": 0.7, "records": []}
    assert set(targets["lucchi"]) == {"parts", "teacher"}
    regions = {"lucchi": (SimpleNamespace(name="lucchi/region"),)}
    targets = trial.score_parts(Path(), config, None, parts, scoring, regions=regions)
    assert asked[3:] == [*asked[:3], ("lucchi/region", "masks of all planes")]
    assert set(targets["lucchi"]) == {"parts", "teacher", "masks"}


def test_validation_reads_no_test_volume_of_another_data_set(tmp_path, monkeypatch):
    from dualrel_jax.benchmark import trial

    array = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    image, label = (Volume.from_array(a, (50.0, 4.0, 4.0), "fly") for a in (array, (array > 200).astype(np.uint8)))
    source = fully_labelled(image, label, "instances")
    raw = registry.Raw({"train": source, "test": source}, "0:14", "16:20")
    for name in ("fly", "worm"):
        monkeypatch.setitem(registry.DATASETS, name, lambda config: raw)
    data = config_lib.get_config("supervised:phantom,1").data
    data.name, data.pixel_nm = "worm", 0.0
    own = registry.load_dataset(data)
    for score_on, names in (("test", ["fly/test"]), ("validation", ["fly/train", "fly/validation"])):
        parts = trial.parts_to_score(own, data, ["worm", "fly"], score_on)
        assert [part.name for part in parts["fly"]] == names


def test_the_command_measures_first_and_never_repeats(tmp_path, monkeypatch, capsys):
    """Whole program without trainings: 2 rows measured once, 4 trials run once, tables of both domains."""
    worker = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
trial = json.loads((folder / "cell.json").read_text())
print("working", flush=True)
(folder / "config.json").write_text(json.dumps(trial["config"]))
if measuring:
    (folder / "cost.json").write_text("0.5" if trial["row"] == "dualrel" else "0.2")
    sys.exit()
better = trial["row"] == "dualrel"
record = {"z": 1, "tp": 5 + better, "fp": 1, "fn": 4 - better, "tn": 9}
scored = {"jac_pooled": record["tp"] / 10, "records": [record]}
own, other = trial["scoring"]["targets"]
targets = {own: {"parts": [], "teacher": scored, "masks": scored}, other: {"parts": [], "teacher": scored}}
scores = {key: trial[key] for key in ("row", "labelled", "seed", "scoring")} | {"targets": targets, "pixel_nm": None}
scores |= {"wall_seconds": 1.0, "steps": trial["config"]["train"]["steps"], "cpu_seconds_per_step": 0.2}
(folder / "scores.json").write_text(json.dumps(scores))
"""
    monkeypatch.setattr(benchmark, "COMMAND", [sys.executable, "-c", f"measuring = False{worker}"])
    monkeypatch.setattr(benchmark, "MEASURE", [sys.executable, "-c", f"measuring = True{worker}"])
    monkeypatch.setattr(benchmark, "make_slots", lambda number, limit: [scheduler.Slot({})] * 2)
    flags = ["--config=configs/domains.py:fly_brain+vnc", f"--workdir={tmp_path}", "--config.only=supervised,dualrel"]
    flags += ["--config.labelled=1", "--config.seeds=1", "--config.cpu_minutes=5"]
    for runs in (1, 2):
        assert benchmark.main(flags) == 0
        printed = capsys.readouterr().out
        assert ("Measuring" in printed) == (runs == 1) and f"4 trials, {4 * (runs == 1)} of them to run" in printed
    logs = list(tmp_path.rglob("log.txt"))
    assert len(logs) == 6 and {log.read_text() for log in logs} == {"working\n"}
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    steps = {row["row"]: float(row["steps"]) for row in rows if row["trained_on"] == "mean"}
    assert steps == {"supervised": 1500, "dualrel": 600}
    table = (tmp_path / "table.md").read_text()
    assert "Trainings of 5 CPU-minutes each" in table and "+10.0" in table
    (tmp_path / "table.md").unlink()
    assert benchmark.main([f"--workdir={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == table
