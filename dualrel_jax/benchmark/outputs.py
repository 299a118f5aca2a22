"""The files of a benchmark: results.json, and the tables and plots that are made of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dualrel_jax.benchmark import domain_tables, tables
from dualrel_jax.benchmark.domain_statistics import compare_domains
from dualrel_jax.benchmark.statistics import compare
from dualrel_jax.errors import InputError
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json


def outputs_of(config: Mapping, workdir: Path) -> list[Path]:
    """What `write_outputs` writes where there are trials."""
    names = ["table.md", "table.csv", "table.tex", "results.json"]
    if "domains" not in config:
        names += ["curve.png", "curve.pdf", "weights.png"]
    return [workdir / name for name in names]


def write_outputs(config: Mapping, trials: Sequence[Mapping], workdir: Path) -> None:
    """Tables, plots and results.json, from which all of them can be made again."""
    from dualrel_jax.benchmark import plots

    text = json.dumps({"config": config, "cells": trials}, allow_nan=False)
    write_text(workdir / "results.json", text.replace('{"row": ', '\n{"row": ') + "\n")
    if not trials:
        return
    if "domains" in config:
        entries = compare_domains(config, trials)
        made = domain_tables.make_tables(config, trials, entries)
        write_text(workdir / "table.csv", domain_tables.csv_text(entries))
        write_text(workdir / "table.md", tables.markdown(made))
        write_text(workdir / "table.tex", tables.latex(made))
        return
    entries = compare(config, trials)
    made = tables.make_tables(config, trials, entries)
    write_text(workdir / "table.md", tables.markdown(made))
    write_text(workdir / "table.tex", tables.latex(made))
    write_text(workdir / "table.csv", tables.csv_text(entries))
    plots.score_curves(entries, [workdir / "curve.png", workdir / "curve.pdf"])
    plots.weight_curves(config, trials, [workdir / "weights.png"])


def remake_outputs(workdir: Path) -> None:
    path = workdir / "results.json"
    if not path.is_file():
        raise InputError(f"{workdir} holds no benchmark ({path.name} is missing); run one there with --config first.")
    fields = {"config": dict, "cells": list}
    results = read_json(path, fields, "repeat the benchmark's command, which writes it again")
    write_outputs(results["config"], results["cells"], workdir)
