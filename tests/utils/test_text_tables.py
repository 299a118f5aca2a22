import csv
import doctest
import io

import numpy as np

from dualrel_jax.utils import tables


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(tables).failed == 0


def test_csv_reads_back_with_commas_quotes_and_lines_in_a_cell():
    rows = [["a,b", 'say "x"'], ["two\nlines", "ü"], [np.float64("nan"), np.float32(0.25)], [None, 7]]
    text = tables.csv_table(["first", "second"], rows)
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read == [["first", "second"], *rows[:2], ["", "0.25"], ["", "7"]]
