"""Work in independent tasks: a function of each, in this process or on a cluster."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dualrel_jax.utils import interrupt

Task = TypeVar("Task")
Result = TypeVar("Result")
# (function, tasks) -> each task with the function's result, in any order. `inference.cluster` has the other one.
Tasks = Callable[[Callable[[Task], Result], Iterable[Task]], Iterator[tuple[Task, Result]]]


def in_this_process(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
    """Calls `function` on one task after the other. An error ends the work."""
    for task in tasks:
        interrupt.check()
        yield task, function(task)
