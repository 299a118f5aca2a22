"""Results: every number of a table equals the one in its JSON file; the log keeps its form.

A table is checked if an HTML comment stands before it: `scores`, then one line per column of numbers,
`heading: [difference] FILE TARGET LABELLED`, with FILE in results/; or, of several domains,
`domains: FILE QUESTION LABELLED`.
"""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from dualrel_jax.benchmark import domain_tables, statistics
from dualrel_jax.benchmark.domain_statistics import compare_domains

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
ROWS = {  # title in a table -> row of a benchmark
    "Supervised": "supervised",
    "Supervised, all labels": "supervised",
    "Mean Teacher": "mean_teacher",
    "Mean Teacher, zoomed view": "zoom_alone",
    "CCT": "cct",
    "GCT": "gct",
    "CPS": "cps",
    "CPS + CutMix": "cps_cutmix",
    "UniMatch": "unimatch",
    "RankMatch": "rankmatch",
    "DualRel (as in the supplement)": "dualrel_paper",
    "DualRel (this package)": "dualrel",
    "nothing: DualRel (this package)": "dualrel",
    "referential correlation": "direct",
    "reliability": "uniform",
    "diversity": "no_diversity",
    "prototype consistency": "no_consistency",
    "zoomed view": "one_geometry",
}
DOMAINS = {"Lucchi": "lucchi", "fly brain": "fly_brain", "muscle": "glycolytic_muscle", "VNC": "vnc"}
PARTS = ("- **Hypothesis**: ", "- **Prediction**: ", "- **Command**: ", "- **Revision**: ", "## Result", "## Decision")
ENTRIES = sorted((RESULTS / "log").glob("[0-9]*.md"))


@cache
def scores(file):
    """{(target, row, labelled): (score, difference)} as texts of a table."""
    content = json.loads((RESULTS / file).read_text())
    texts = {}
    for entry in statistics.compare(content["config"], content["cells"]):
        score, deviation = entry.scores["jac_pooled"]
        difference = ""
        if entry.difference and entry.row != statistics.REFERENCE:
            difference = "{:+.1f} ({:+.1f} to {:+.1f})".format(*entry.difference).replace("-", "−")
        texts[entry.target, entry.row, entry.labelled] = f"{score:.1f} ± {deviation:.1f}", difference
    return texts


def tables_with_scores(page):
    """(columns, rows) of each checked table; columns maps a heading to its source, rows hold one dict per row."""
    text = (ROOT / page).read_text()
    for comment, table in re.findall(r"<!-- scores\n(.*?)-->\n\n((?:\|[^\n]*\n)+)", text, re.DOTALL):
        sources = dict(line.split(": ") for line in comment.strip().splitlines())
        heading, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
        yield sources, [dict(zip(heading, line, strict=True)) for line in lines]


@pytest.mark.parametrize(("page", "count"), [("results/all_methods.md", 3)])
def test_numbers_of_tables_equal_their_files(page, count):
    checked = list(tables_with_scores(page))
    assert len(checked) == count
    for sources, rows in checked:
        assert set(sources) == set(list(rows[0])[1:])
        for row in rows:
            title, *_ = row.values()
            for heading, source in sources.items():
                *kind, file, target, labelled = source.split()
                key = target, ROWS[title], "all" if title.endswith("all labels") else labelled
                expected = scores(file).get(key, ("–", "–"))[bool(kind)]
                assert row[heading].replace("*", "") == expected, f"{title}, {heading}"


@cache
def domain_scores(file):
    """{(question, labelled, row): {heading: score}} as texts of a table."""
    content, texts = json.loads((RESULTS / file).read_text()), {}
    for entry in compare_domains(content["config"], content["cells"]):
        cells = {"mean": domain_tables.mean_text(entry.mean)}
        cells |= {heading: domain_tables.mean_text(entry.domains.get(name)) for heading, name in DOMAINS.items()}
        texts[entry.question, entry.labelled, entry.row] = cells
    return texts


@pytest.mark.parametrize(
    ("page", "count"), [("README.md", 1), ("results/README.md", 3), ("results/seeds_and_labels.md", 8)]
)
def test_numbers_of_domain_tables_equal_their_files(page, count):
    text = (ROOT / page).read_text()
    tables = re.findall(r"<!-- domains: (\S+) (\S+) (\S+) -->\n\n((?:\|[^\n]*\n)+)", text)
    assert len(tables) == count
    for file, question, labelled, table in tables:
        heading, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
        for title, *cells in rows:
            expected = domain_scores(file)[question, labelled, ROWS[title]]
            shown = {column: cell.replace("*", "") for column, cell in zip(heading[1:], cells, strict=True)}
            assert shown == {column: expected[column] for column in shown}, f"{page}, {question}, {title}"


def test_every_file_of_results_is_named_on_a_page():
    pages = "".join(page.read_text() for page in RESULTS.rglob("*.md"))
    unnamed = [path.name for path in RESULTS.rglob("*") if path.is_file() and path.suffix != ".md"]
    assert [name for name in unnamed if name not in pages] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.stem)
def test_an_entry_of_the_log_has_all_parts_in_order(entry):
    text = entry.read_text()
    assert text.startswith(f"# {entry.name[:2]} ")
    places = [text.find(f"\n{part}") for part in PARTS]
    assert -1 not in places and places == sorted(places)
    assert re.search(r"`[0-9a-f]{7}`", text), "the revision"
    assert re.search(r"\bn = ", text), "the number of seeds or models"
    assert f"({entry.name})" in (RESULTS / "log" / "README.md").read_text()


def test_the_log_is_numbered_without_gaps():
    assert [int(entry.name[:2]) for entry in ENTRIES] == list(range(1, len(ENTRIES) + 1))
