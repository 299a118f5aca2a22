from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.utils.ranges import consecutive_runs, format_runs


@given(st.sets(st.integers(-20, 60)))
@settings(max_examples=50, deadline=None)
def test_consecutive_runs_are_the_numbers(numbers):
    runs = consecutive_runs(numbers)
    assert {n for first, last in runs for n in range(first, last + 1)} == numbers
    assert all(last + 1 < first for (_, last), (first, _) in zip(runs, runs[1:], strict=False))


def test_runs_as_text():
    assert format_runs([5, 3, 4, 9]) == "3 to 5, 9" and format_runs([]) == ""
    assert (format_runs([1, 3, 5], 2), format_runs([1, 3], 2)) == ("1, 3, ...", "1, 3")
