"""Statistics of a benchmark: from the scores of its trials to one entry per row, partition and test set."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from dualrel_jax.benchmark.published import published

REFERENCE, BASELINE = "dualrel", "supervised"  # rows: differences are to the first, the second gives both bounds
SCORED = ("teacher", "student", "masks")  # of a data set: single slices by either weights, and masks of `predict`
METRICS = ("jac_pooled", "dsc_pooled", "jac_per_slice_mean", "dsc_per_slice_mean")

MeanDeviation = tuple[float, float | None]  # mean and standard deviation over seeds (None for one seed)
Difference = tuple[float, float | None, float | None]  # mean and its 95 % interval (None where there is none)


@dataclass(frozen=True)
class Entry:
    """One row of the comparison at one number of labelled slices, scored on one data set. Scores are in percent.

    Attributes:
      scores: metric -> mean and sample standard deviation over seeds; a metric that is undefined (0/0) is missing.
      difference: pooled JAC of DualRel minus this row's; None where one of the two is missing.
      gap_closed: percent of the way from the supervised baseline with these labels to that with every label.
      gap_note: why `gap_closed` is None.
      seconds_per_step: median over seeds. minutes: of training, all seeds together.
      published: (JAC, DSC) that others report of the test volume, DSC may be None.
    """

    target: str
    row: str
    title: str
    labelled: str
    labelled_slices: int
    seeds: int
    scores: Mapping[str, MeanDeviation] = field(default_factory=dict)
    difference: Difference | None = None
    gap_closed: float | None = None
    gap_note: str = ""
    seconds_per_step: float | None = None
    minutes: float = 0.0
    published: tuple[float, float | None] | None = None


def compare(config: Mapping, trials: Sequence[Mapping]) -> list[Entry]:
    """Entries of all trials, by test set, by labelled slices, then in the order of the rows.

    `config` is the benchmark's (configs/benchmark.py) as plain data; a trial is what `compact` returns.
    """
    groups: dict[tuple[str, str], list[Mapping]] = {}
    for trial in sorted(trials, key=lambda trial: (trial["labelled_slices"], trial["labelled"], trial["seed"])):
        groups.setdefault((trial["labelled"], trial["row"]), []).append(trial)
    labels = list(dict.fromkeys(labelled for labelled, _ in groups))
    order = [(labelled, row) for labelled in labels for row in config["rows"] if (labelled, row) in groups]
    return [
        entry for target in targets(config) for entry in _entries(config, target, {key: groups[key] for key in order})
    ]


def targets(config: Mapping, domain: str = "") -> list[str]:
    """Names of the data sets that are scored, that of the training first; the others are the other domains, if any."""
    if domain:
        return [domain, *(name for name in domains_of(config) if name != domain)]
    return [config["base"]["data"]["name"], *filter(None, config["to"].split("+"))]


def domains_of(config: Mapping) -> list[str]:
    """The domains of a benchmark over several; [""] for one on a single data set."""
    return list(config["domains"]) if "domains" in config else [""]


def _entries(config: Mapping, target: str, groups: Mapping[tuple[str, str], list[Mapping]]) -> list[Entry]:
    weights, data = config["base"]["predict"]["weights"], config["base"]["data"]["name"]
    summaries = {
        key: {trial["seed"]: trial["targets"][target][weights] for trial in group if target in trial["targets"]}
        for key, group in groups.items()
    }
    scores = {key: _scores(list(by_seed.values())) for key, by_seed in summaries.items()}
    jac = {key: means["jac_pooled"][0] for key, means in scores.items() if "jac_pooled" in means}
    entries = []
    for (labelled, row), group in groups.items():
        by_seed = summaries[labelled, row]
        if not by_seed:
            continue
        gap, note = gap_closed(jac.get((labelled, row)), jac.get((labelled, BASELINE)), jac.get(("all", BASELINE)))
        entries.append(
            Entry(
                target=target,
                row=row,
                title=config["rows"][row]["title"],
                labelled=labelled,
                labelled_slices=group[0]["labelled_slices"],
                seeds=len(by_seed),
                scores=scores[labelled, row],
                difference=_difference(summaries.get((labelled, REFERENCE), {}), by_seed),
                gap_closed=gap,
                gap_note=note,
                seconds_per_step=seconds_per_step(group),
                minutes=sum(map(training_minutes, group)),
                published=published(data, target, row, labelled) if config["score_on"] == "test" else None,
            )
        )
    return entries


def compact(scores: Mapping) -> dict:
    """The content of a trial's scores.json with its records as rows of counts, for results.json."""
    targets = {}
    for name, target in scores["targets"].items():
        targets[name] = dict(target)
        for kind in SCORED:
            if kind in target:
                summary = dict(target[kind])
                summary["counts"] = [[r[key] for key in ("z", "tp", "fp", "fn", "tn")] for r in summary.pop("records")]
                targets[name][kind] = summary
    return {**scores, "targets": targets}


def mean_and_deviation(values: Sequence[float]) -> MeanDeviation:
    """Mean and sample standard deviation; None for the latter where there is one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_difference(a: np.ndarray, b: np.ndarray) -> Difference | None:
    """Pooled JAC of method a minus that of b on one test set: mean over seeds, and its interval by Student's t.

    What makes a seed hard for both cancels. One seed has no interval: its slices say nothing of other trainings.

    Args:
        a, b: counts `seed z 3`: true positive, false positive and false negative pixels.

    Returns:
        (difference, low, high) as fractions; None where a pooled JAC is 0/0.
    """
    if a.shape != b.shape:
        raise ValueError(f"expected counts of the same seeds and slices, got {a.shape} and {b.shape}")
    differences = _jac(a.sum(axis=1)) - _jac(b.sum(axis=1))
    if not np.isfinite(differences).all():
        return None
    return mean_difference(differences.tolist()) or (float(differences[0]), None, None)


def mean_difference(differences: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean of the differences of two methods over domains, or seeds, with its 95 % interval; None for fewer than two.

    By Student's t, which takes them as a sample of all there are. Over 4 domains it holds the true mean 95 times of
    100, a bootstrap of the domains 80 times (simulated with normal differences).
    """
    count = len(differences)
    if count < 2:
        return None
    mean, sd = mean_and_deviation(differences)
    half = float(stdtrit(count - 1, 0.975)) * sd / math.sqrt(count)
    return mean, mean - half, mean + half


def gap_closed(score: float | None, few: float | None, every: float | None) -> tuple[float | None, str]:
    """Percent of the way from `few`, the supervised score with these labels, to `every`, with all; or why not."""
    if few is None or every is None:
        return None, "the supervised baseline with few or with all labels is missing"
    if score is None:
        return None, "the score is undefined"
    if every <= few:
        return None, "all labels do not help the supervised baseline, so there is no gap to close"
    return 100 * (score - few) / (every - few), ""


def seconds_per_step(trials: Sequence[Mapping]) -> float | None:
    """Median over trials; None if none was timed."""
    known = [trial["seconds_per_step"] for trial in trials if trial["seconds_per_step"] is not None]
    return statistics.median(known) if known else None


def training_minutes(trial: Mapping) -> float:
    """From the time of its steps, which a restart leaves alone; the time of its last start where that is not known."""
    known = trial["seconds_per_step"] is not None
    return (trial["steps"] * trial["seconds_per_step"] if known else trial["wall_seconds"]) / 60


def _scores(summaries: list[Mapping]) -> dict[str, MeanDeviation]:
    known = {metric: [100 * s[metric] for s in summaries if s[metric] is not None] for metric in METRICS}
    return {metric: mean_and_deviation(values) for metric, values in known.items() if values}


def _difference(reference: Mapping, other: Mapping) -> Difference | None:
    """`reference` and `other`: seed -> summary with counts. In percent, over the seeds both have."""
    seeds = sorted(set(reference) & set(other))
    if not seeds:
        return None
    a, b = (np.array([side[seed]["counts"] for seed in seeds]) for side in (reference, other))
    if not np.array_equal(a[..., 0], b[..., 0]):
        raise ValueError("expected the same slices of both methods, got different ones")
    difference = paired_difference(a[..., 1:4], b[..., 1:4])
    return difference and tuple(value if value is None else 100 * value for value in difference)


def _jac(counts: np.ndarray) -> np.ndarray:
    """`... 3` -> `...`, NaN where nothing is foreground."""
    total = counts.sum(axis=-1)
    return np.where(total > 0, counts[..., 0] / np.maximum(total, 1), math.nan)
