"""The tables of a benchmark, as Markdown, CSV and LaTeX."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dualrel_jax.benchmark.published import source
from dualrel_jax.benchmark.statistics import BASELINE, METRICS, REFERENCE, Difference, Entry, MeanDeviation
from dualrel_jax.utils.tables import csv_table, markdown_table

AVERAGES = {  # in the title of a table -> its metrics
    "pooled over slices": ("jac_pooled", "dsc_pooled"),
    "mean of slices": ("jac_per_slice_mean", "dsc_per_slice_mean"),
}
NOTHING = "–"


@dataclass
class Table:
    """Text of a table. `groups` are (heading, sub-headings) of columns; `bold` holds (row, column) of best values."""

    title: str
    groups: list[tuple[str, list[str]]]
    rows: list[list[str]]
    bold: set[tuple[int, int]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def make_tables(config: Mapping, trials: Sequence[Mapping], entries: Sequence[Entry]) -> list[Table]:
    """For each data set that was scored: both averages, then the differences to DualRel."""
    tables, seeds = [], most_seeds(config, entries)
    for target in dict.fromkeys(entry.target for entry in entries):
        own = [entry for entry in entries if entry.target == target]
        data = config["base"]["data"]["name"]
        tested = f"Trained on {data}, tested on {_tested_on(config, trials, target)}"
        notes = _notes(config, trials)
        for average, metrics in AVERAGES.items():
            tables.append(score_table(f"{tested}: {average}", own, metrics, seeds, notes))
            if average == "mean of slices" and any(entry.published for entry in own):
                tables[-1].notes.append(f"Published: {source(data, target)}.")
        tables.append(difference_table(f"{tested}: against DualRel", own))
    return tables


def most_seeds(config: Mapping, entries: Sequence) -> int:
    """Seeds of a complete row: those asked for, or more where a folder holds more of another row."""
    return max(config["seeds"], *(entry.seeds for entry in entries))


def score_table(
    title: str, entries: Sequence[Entry], metrics: tuple[str, str], seeds: int, notes: Sequence[str] = ()
) -> Table:
    """Rows methods, columns JAC and DSC of each partition, in percent, and the cost; entries of one test set.

    Published numbers stand under the method's own, in the table of means of slices, to whose rule they fit.
    """
    columns, rows, bounds = _layout(entries)
    groups = [("", ["Method"]), *((heading, ["JAC", "DSC"]) for heading in columns.values())]
    groups.append(("Training", ["s / step", "min in all"]))
    table, numbers = Table(title, groups, [], notes=list(notes)), {}
    for row, title_ in rows.items():
        row_entries = [rows_of(entries, row).get(labelled) for labelled in columns]
        texts = [
            _mean_text(entry and entry.scores.get(metric), entry, seeds) for entry in row_entries for metric in metrics
        ]
        numbers[len(table.rows)] = [
            entry.scores[metric][0] if entry and entry.seeds == seeds and metric in entry.scores else None
            for entry in row_entries
            for metric in metrics
        ]
        table.rows.append([title_, *texts, *_cost([entry for entry in row_entries if entry])])
        if "mean" in metrics[0] and any(entry and entry.published for entry in row_entries):
            pairs = [(entry and entry.published) or (None, None) for entry in row_entries]
            theirs = [NOTHING if value is None else f"{value:.1f}" for pair in pairs for value in pair]
            table.rows.append([f"{title_}, published", *theirs, "", ""])
    table.bold = best_cells(numbers)
    for bound in bounds:
        texts = [_mean_text(bound.scores.get(metric), bound, seeds) for metric in metrics]
        title_ = f"{bound.title}, all {bound.labelled_slices} labels"
        table.rows.append([title_, *texts * len(columns), *_cost([bound])])
    if any(entry.seeds < seeds for entry in entries):
        table.notes.append(f"A number in brackets: only so many of {seeds} seeds so far.")
    return table


def best_cells(numbers: Mapping[int, Sequence[float | None]]) -> set[tuple[int, int]]:
    """(row, column) of the highest numbers of each column, as printed; none of a column in which a row has no number.

    Args:
      numbers: row of the table -> its numbers from the second column on; None where it has none, or of fewer seeds.
    """
    best = set()
    for column, values in enumerate(zip(*numbers.values(), strict=True), start=1):
        if len(values) > 1 and None not in values:
            printed = [round(value, 1) for value in values]
            best |= {(row, column) for row, value in zip(numbers, printed, strict=True) if value == max(printed)}
    return best


def difference_table(title: str, entries: Sequence[Entry]) -> Table:
    """DualRel minus each method in pooled JAC with its interval, and how much of the gap is closed."""
    columns, rows, _ = _layout(entries)
    groups = [("", ["Method"]), *((heading, ["DualRel − method", "gap closed"]) for heading in columns.values())]
    table, reasons = Table(title, groups, []), []
    for row, name in rows.items():
        texts = [name]
        for labelled in columns:
            entry = rows_of(entries, row).get(labelled)
            gap = NOTHING
            if entry and entry.gap_closed is not None:
                gap = f"{entry.gap_closed:.0f} %".replace("-", "−")
            elif entry:
                if entry.gap_note not in reasons:
                    reasons.append(entry.gap_note)
                gap = f"{NOTHING} [{reasons.index(entry.gap_note) + 1}]"
            texts += ["" if row == REFERENCE else interval_text(entry and entry.difference), gap]
        table.rows.append(texts)
    table.notes = [
        "Percentage points of pooled JAC, positive where DualRel is better, with a 95 % interval by Student's t over "
        "the seeds that both have; of one seed there is none.",
        "Gap closed: (method - supervised) / (supervised with all labels - supervised).",
        *(f"[{i}] {reason}." for i, reason in enumerate(reasons, 1)),
    ]
    return table


def rows_of(entries: Sequence[Entry], row: str) -> dict[str, Entry]:
    """Labelled slices -> entry of one row."""
    return {entry.labelled: entry for entry in entries if entry.row == row}


def _layout(entries: Sequence[Entry]) -> tuple[dict[str, str], dict[str, str], list[Entry]]:
    """(labelled slices -> column heading, row -> title, the supervised bound).

    "all" is a column only if other rows trained on it.
    """
    bounds = [entry for entry in entries if (entry.row, entry.labelled) == (BASELINE, "all")]
    if any(entry.labelled == "all" and entry.row != BASELINE for entry in entries):
        bounds = []
    rest = [entry for entry in entries if entry not in bounds] or entries
    columns = {entry.labelled: f"{entry.labelled} ({entry.labelled_slices})" for entry in rest}
    return columns, {entry.row: entry.title for entry in rest}, bounds if rest is not entries else []


def _mean_text(value: MeanDeviation | None, entry: Entry | None, seeds: int) -> str:
    if not value:
        return NOTHING
    mean, sd = value
    text = f"{mean:.1f}" if sd is None else f"{mean:.1f} ± {sd:.1f}"
    return f"{text} ({entry.seeds})" if entry.seeds < seeds else text


def _cost(entries: Sequence[Entry]) -> list[str]:
    """Seconds per step, the median over partitions, and minutes in all."""
    seconds = [entry.seconds_per_step for entry in entries if entry.seconds_per_step is not None]
    middle = f"{statistics.median(seconds):.3g}" if seconds else NOTHING
    return [middle, f"{sum(entry.minutes for entry in entries):.3g}"]


def interval_text(difference: Difference | None) -> str:
    """A difference and, if it has one, its interval, with signs."""
    if difference is None:
        return NOTHING
    value, *interval = (f"{number:+.1f}".replace("-", "−") for number in difference if number is not None)
    return f"{value} ({' to '.join(interval)})" if interval else value


def _tested_on(config: Mapping, trials: Sequence[Mapping], target: str) -> str:
    scored = next(trial["targets"][target] for trial in trials if target in trial["targets"])
    return f"{', '.join(scored['parts'])} ({scored[config['base']['predict']['weights']]['slices']} slices)"


def _notes(config: Mapping, trials: Sequence[Mapping]) -> list[str]:
    steps, devices = ({trial[key] for trial in trials} for key in ("steps", "device"))
    pixels = {tuple(trial["pixel_nm"]) if trial["pixel_nm"] else None for trial in trials}
    size = " or ".join(f"{y:g} × {x:g} nm" for y, x in sorted(pixels - {None}))
    resampled = (
        f"All images are resampled to one pixel size ({size}) and" if size else "Images are used as they are, and"
    )
    weights = {"teacher": "averaged (teacher)", "student": "student"}[config["base"]["predict"]["weights"]]
    return [
        f"Percent, mean ± standard deviation over seeds. Every method: {'/'.join(map(str, sorted(steps)))} steps, the "
        f"same data order, augmentation and evaluation, {weights} weights. {resampled} scored at the pixel size of "
        f"their labels. Times: {', '.join(sorted(devices))}."
    ]


# ---------------------------------------------------------------------------------------------------------------------
# The three formats
# ---------------------------------------------------------------------------------------------------------------------


def markdown(tables: Sequence[Table]) -> str:
    blocks = []
    for table in tables:
        header = [" ".join(filter(None, (heading, name))) for heading, names in table.groups for name in names]
        body = [
            [f"**{text}**" if (i, j) in table.bold else text for j, text in enumerate(row)]
            for i, row in enumerate(table.rows)
        ]
        blocks.append("\n\n".join([f"## {table.title}", markdown_table(header, body), *table.notes]))
    return "\n\n".join(blocks) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """A `table` each, for a document with the package booktabs."""
    blocks = ["% \\usepackage{booktabs}"]
    for table in tables:
        width = sum(len(names) for _, names in table.groups)
        heading = [f"\\multicolumn{{{len(names)}}}{{c}}{{{_tex(text)}}}" for text, names in table.groups]
        names = [_tex(name) for _, names in table.groups for name in names]
        body = [
            [f"\\textbf{{{_tex(text)}}}" if (i, j) in table.bold else _tex(text) for j, text in enumerate(row)]
            for i, row in enumerate(table.rows)
        ]
        lines = [
            "\\begin{table}",
            "\\centering\\small",
            f"\\caption{{{_tex(' '.join([table.title + '.', *table.notes]))}}}",
            f"\\begin{{tabular}}{{l{'c' * (width - 1)}}}",
            "\\toprule",
            *(" & ".join(line) + " \\\\" for line in (heading, names)),
            "\\midrule",
            *(" & ".join(line) + " \\\\" for line in body),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def csv_text(entries: Sequence[Entry]) -> str:
    """A line an entry; scores and differences in percent, empty where there is none."""
    columns = ["target", "row", "title", "labelled", "labelled_slices", "seeds"]
    header = [*columns, *(f"{metric}_{part}" for metric in METRICS for part in ("percent", "sd"))]
    header += ["dualrel_minus_row", "dualrel_minus_row_low", "dualrel_minus_row_high", "gap_closed_percent"]
    header += ["seconds_per_step", "training_minutes", "published_jac", "published_dsc"]
    rows = []
    for entry in entries:
        scores = [value for metric in METRICS for value in entry.scores.get(metric, (None, None))]
        difference = entry.difference or (None, None, None)
        cost = [entry.seconds_per_step, entry.minutes, *(entry.published or (None, None))]
        numbers = [*scores, *difference, entry.gap_closed, *cost]
        labels = [getattr(entry, column) for column in columns]
        rows.append([*labels, *(None if number is None else round(number, 4) for number in numbers)])
    return csv_table(header, rows)


_TEX = {
    **{character: f"\\{character}" for character in "&%_#${}"},
    **{"\\": "/", "^": "\\^{}", "~": "\\~{}", "`": "", "±": "$\\pm$", "−": "$-$", "–": "--", "×": "$\\times$"},
}


def _tex(text: str) -> str:
    """Text, with code in backticks, as LaTeX."""
    return text.translate(str.maketrans(_TEX))
