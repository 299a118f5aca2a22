"""The tables of a benchmark over several domains, one a question and label count, and their CSV."""

from collections.abc import Mapping, Sequence

from dualrel_jax.benchmark.domain_statistics import CROSS, QUESTIONS, DomainEntry
from dualrel_jax.benchmark.statistics import REFERENCE, MeanDeviation, domains_of
from dualrel_jax.benchmark.tables import NOTHING, Table, best_cells, interval_text, most_seeds
from dualrel_jax.utils.tables import csv_table


def make_tables(config: Mapping, trials: Sequence[Mapping], entries: Sequence[DomainEntry]) -> list[Table]:
    """Methods x (mean over domains, each domain, mean rank, difference to DualRel, cost)."""
    keys = dict.fromkeys((entry.labelled, entry.question) for entry in entries)
    return [
        _table(
            config,
            [entry for entry in entries if (entry.labelled, entry.question) == (labelled, question)],
            _notes(config, trials, question),
        )
        for labelled, question in keys
    ]


def _table(config: Mapping, entries: Sequence[DomainEntry], notes: Sequence[str]) -> Table:
    domains, first = domains_of(config), entries[0]
    labels = "every label" if first.labelled == "all" else f"{first.labelled} labelled slices"
    groups = [("", ["Method", "mean", *domains, "rank", "DualRel − method", "steps", "CPU min"])]
    table = Table(f"{QUESTIONS[first.question]}: {labels.replace('1 labelled slices', '1 labelled slice')}", groups, [])
    numbers = {}
    seeds = most_seeds(config, entries)
    for i, entry in enumerate(entries):
        values = [entry.mean, *(entry.domains.get(domain) for domain in domains)]
        whole = entry.seeds == seeds
        numbers[i] = [value[0] if value and whole else None for value in values] + [entry.rank and -entry.rank]
        mean, *rest = map(mean_text, values)
        short = entry.mean and entry.seeds < seeds
        texts = [entry.title, f"{mean} ({entry.seeds})" if short else mean, *rest]
        texts.append(NOTHING if entry.rank is None else f"{entry.rank:.1f}")
        texts.append("" if entry.row == REFERENCE else interval_text(entry.difference))
        texts += [f"{entry.steps:.0f}", NOTHING if entry.cpu_minutes is None else f"{entry.cpu_minutes:.3g}"]
        table.rows.append(texts)
    table.bold = best_cells(numbers)
    table.notes = [*notes]
    if any(0 < entry.seeds < seeds for entry in entries):
        table.notes.append(f"A number in brackets: only so many of {seeds} seeds have all domains so far.")
    return table


def mean_text(value: MeanDeviation | None) -> str:
    """`86.1 ± 0.4`, `86.1` of one seed, or a dash."""
    if value is None:
        return NOTHING
    mean, sd = value
    return f"{mean:.1f}" if sd is None else f"{mean:.1f} ± {sd:.1f}"


def _notes(config: Mapping, trials: Sequence[Mapping], question: str) -> list[str]:
    budget = f"{config['cpu_minutes']:g} CPU-minutes each" if config["cpu_minutes"] else "equal steps"
    pixels = sorted({"as they are" if not pixel else f"{pixel[0]:g} x {pixel[1]:g} nm" for pixel in _pixels(trials)})
    count = config["foreign_slices"]
    elsewhere = f"{count} evenly spaced labelled slices" if count else "every labelled slice"
    scored = {
        "slices": "Scored on a region of the same volume apart in z and in-plane",
        "masks": "Scored on a region of the same volume apart in z and in-plane, as `predict` averages along z and "
        "sets the threshold",
        "cross": f"Scored on {elsewhere} of each other domain, the mean over these, by the head and threshold of "
        "`predict`",
        "cross_masks": "Scored on a region of each other domain, the mean over these, by the head, the threshold and "
        "the planes of `predict`",
    }
    interval = "" if question in CROSS else ", with the 95 % interval of the mean over domains (Student's t)"
    return [
        "Pooled JAC in percent, mean ± standard deviation over seeds; a column is the domain that was trained on. "
        f"{scored[question]}. Trainings of {budget}, pixels: {', '.join(pixels)}.",
        f"Rank: 1 is best, mean over domains and seeds. DualRel − method: positive where DualRel is better{interval}.",
    ]


def _pixels(trials: Sequence[Mapping]) -> set[tuple[float, ...]]:
    return {tuple(trial["pixel_nm"] or ()) for trial in trials}


def csv_text(entries: Sequence[DomainEntry]) -> str:
    """A line an entry and domain (`mean`: over all), and one a pair of domains; scores in percent."""
    header = ["question", "labelled", "row", "title", "trained_on", "scored_on", "seeds", "jac_percent", "jac_sd"]
    header += ["rank", "dualrel_minus_row", "dualrel_minus_row_low", "dualrel_minus_row_high", "steps", "cpu_minutes"]
    rows = []
    for entry in entries:
        names = [entry.question, entry.labelled, entry.row, entry.title]
        difference, cost = entry.difference or (None,) * 3, (entry.steps, entry.cpu_minutes)
        whole = [*(entry.mean or (None, None)), entry.rank, *difference, *cost]
        rows.append([*names, "mean", "mean", entry.seeds, *map(_rounded, whole)])
        pairs = dict(entry.pairs)
        if entry.question in CROSS:
            pairs = {(domain, "mean"): value for domain, value in entry.domains.items()} | pairs
        rows += [[*names, *pair, None, *map(_rounded, value), *[None] * 6] for pair, value in pairs.items()]
    return csv_table(header, rows)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
