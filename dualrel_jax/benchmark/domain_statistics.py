"""Statistics of a benchmark over several domains: from the scores of its trials to one entry a question, label count
and row.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dualrel_jax.benchmark.statistics import (
    REFERENCE,
    Difference,
    MeanDeviation,
    domains_of,
    mean_and_deviation,
    mean_difference,
    targets,
)

QUESTIONS = {
    "slices": "In-domain, single slices",
    "masks": "In-domain, masks as predict makes them",
    "cross": "Cross-domain: trained on one, scored on the others",
    "cross_masks": "Cross-domain, masks as predict makes them",
}

CROSS = ("cross", "cross_masks")

Cells = Mapping[tuple[str, int], Mapping[str, Mapping]]  # (domain, seed) -> test set -> summary with counts


@dataclass(frozen=True)
class DomainEntry:
    """One row at one number of labelled slices, for one question. Pooled JAC in percent.

    Attributes:
      domains: domain that was trained on -> mean and sample standard deviation over seeds; of several test sets the
        score of a seed is their mean.
      pairs: (domain, test set) -> the same of each test set.
      mean: of the means over domains of each seed that has all of them, and their deviation; None without such a seed.
      seeds: how many seeds `mean` is of.
      rank: 1 for the best of all rows, mean over domains and seeds; None where a row lacks one of them.
      difference: DualRel minus this row, mean over domains, and its 95 % interval over domains (cross: none); None
        where one of the two lacks a domain, and of a single one.
      steps, cpu_minutes: of a training, mean over all.
    """

    question: str
    labelled: str
    row: str
    title: str
    domains: Mapping[str, MeanDeviation]
    pairs: Mapping[tuple[str, str], MeanDeviation]
    mean: MeanDeviation | None
    seeds: int
    rank: float | None
    difference: Difference | None
    steps: float
    cpu_minutes: float | None


def compare_domains(config: Mapping, trials: Sequence[Mapping]) -> list[DomainEntry]:
    """Entries of all trials: by labelled slices as in `config["labelled"]`, by question, in the order of the rows."""
    groups: dict[tuple[str, str], list[Mapping]] = {}
    for trial in trials:
        groups.setdefault((trial["labelled"], trial["row"]), []).append(trial)
    labels = dict.fromkeys([*str(config["labelled"]).split(","), *sorted(labelled for labelled, _ in groups)])
    entries = []
    for labelled in labels:
        rows = [row for row in config["rows"] if (labelled, row) in groups]
        for question in QUESTIONS:
            cells = {row: cells_of(config, groups[labelled, row], question) for row in rows}
            reference = cells.get(REFERENCE, {})
            ranks = mean_ranks({row: {key: _score(found) for key, found in cells[row].items()} for row in rows})
            entries += [
                _entry(config, question, groups[labelled, row], cells[row], reference=reference, rank=ranks.get(row))
                for row in rows
                if cells[row]
            ]
    return entries


def cells_of(config: Mapping, trials: Sequence[Mapping], question: str) -> Cells:
    """The summaries that answer a question, of the trials that have all of them with a defined score."""
    weights = config["base"]["predict"]["weights"]
    cells = {}
    for trial in trials:
        if trial["domain"] not in domains_of(config):
            continue
        own, *others = targets(config, trial["domain"])
        names = others if question in CROSS else [own]
        kind = "masks" if question in ("masks", "cross_masks") else weights
        found = {name: trial["targets"].get(name, {}).get(kind) for name in names}
        if found and all(summary and summary["jac_pooled"] is not None for summary in found.values()):
            cells[trial["domain"], trial["seed"]] = found
    return cells


def mean_ranks(scores: Mapping[str, Mapping[tuple[str, int], float]]) -> dict[str, float]:
    """Row -> its rank, 1 for the highest score, mean over (domain, seed); equal scores share the mean of their ranks.

    Empty unless every row has the same domains and seeds.
    """
    keys = [set(of_row) for of_row in scores.values()]
    if not keys or not keys[0] or any(other != keys[0] for other in keys):
        return {}
    table = np.array([[of_row[key] for key in sorted(keys[0])] for of_row in scores.values()])  # row cell
    better = (table[:, None] < table[None]).sum(axis=1)
    equal = (table[:, None] == table[None]).sum(axis=1)
    return dict(zip(scores, (better + (equal + 1) / 2).mean(axis=1).tolist(), strict=True))


def _entry(
    config: Mapping,
    question: str,
    trials: Sequence[Mapping],
    cells: Cells,
    *,
    reference: Cells,
    rank: float | None,
) -> DomainEntry:
    domains, first = domains_of(config), trials[0]
    scores = {key: 100 * _score(found) for key, found in cells.items()}
    seeds = sorted({seed for _, seed in cells})
    whole = [seed for seed in seeds if all((domain, seed) in cells for domain in domains)]
    means = [statistics.fmean(scores[domain, seed] for domain in domains) for seed in whole]
    pairs: dict[tuple[str, str], list[float]] = {}
    for (domain, _), found in sorted(cells.items()):
        for name, summary in found.items():
            pairs.setdefault((domain, name), []).append(100 * summary["jac_pooled"])
    cpu = [trial.get("cpu_seconds_per_step") for trial in trials]
    minutes = [trial["steps"] * seconds / 60 for trial, seconds in zip(trials, cpu, strict=True) if seconds]
    return DomainEntry(
        question=question,
        labelled=first["labelled"],
        row=first["row"],
        title=config["rows"][first["row"]]["title"],
        domains={
            domain: mean_and_deviation([scores[domain, seed] for seed in seeds if (domain, seed) in cells])
            for domain in domains
            if any((domain, seed) in cells for seed in seeds)
        },
        pairs={key: mean_and_deviation(values) for key, values in pairs.items()},
        mean=mean_and_deviation(means) if means else None,
        seeds=len(whole),
        rank=rank,
        difference=None if first["row"] == REFERENCE else _difference(question, domains, reference, cells),
        steps=statistics.fmean(trial["steps"] for trial in trials),
        cpu_minutes=statistics.fmean(minutes) if minutes else None,
    )


def _score(found: Mapping[str, Mapping]) -> float:
    return statistics.fmean(summary["jac_pooled"] for summary in found.values())


def _difference(question: str, domains: Sequence[str], reference: Cells, cells: Cells) -> Difference | None:
    """In percent, over the seeds that both have; None where they share none in one of the domains."""
    differences = []
    for domain in domains:
        shared = [key for key in cells if key in reference and key[0] == domain]
        if not shared:
            return None
        differences.append(100 * statistics.fmean(_score(reference[key]) - _score(cells[key]) for key in shared))
    difference = mean_difference(differences)
    if question in CROSS and difference:  # its means share volumes, so they are no sample for an interval
        return difference[0], None, None
    return difference
