"""The printed progress of a benchmark: one line per ended trial, with the remaining time."""

import statistics
from collections.abc import Mapping, Sequence

from dualrel_jax.benchmark.plan import Trial
from dualrel_jax.utils.text import format_duration


class BenchmarkProgress:
    """One line per ended trial, with the time that the rest will take, from the times of each row."""

    def __init__(self, trials: Sequence[Trial], waiting: Sequence[Trial], slots: int):
        self._total, self._slots, self._left = len(trials), slots, list(waiting)
        self._seconds: dict[str, list[float]] = {}
        for trial in trials:
            if trial not in self._left:
                self._seconds.setdefault(trial.row, []).append(trial.scores()["wall_seconds"])

    def finished(self, trial: Trial, seconds: float, running: Mapping[Trial, float]) -> str:
        self._left.remove(trial)
        self._seconds.setdefault(trial.row, []).append(seconds)
        scores = trial.scores()["targets"]
        jac_of = {name: target[trial.config.predict.weights]["jac_pooled"] for name, target in scores.items()}
        jac = ", ".join(f"{name} {'none' if value is None else f'{value:.1%}'}" for name, value in jac_of.items())
        left = (
            f"{len(self._left)} left, about {format_duration(self._remaining(running))}"
            if self._left
            else "the last one"
        )
        return f"{trial}: JAC {jac}; {format_duration(seconds)}; {left}"

    def failed(self, trial: Trial) -> str:
        self._left.remove(trial)
        return f"{trial}: failed, {trial.last_line()}"

    def _remaining(self, running: Mapping[Trial, float]) -> float:
        means = {row: statistics.fmean(seconds) for row, seconds in self._seconds.items()}
        usual = statistics.fmean(means.values())
        return sum(max(0, means.get(trial.row, usual) - running.get(trial, 0)) for trial in self._left) / self._slots
