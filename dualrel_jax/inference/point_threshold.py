"""The threshold that a few classified points lead to.

How often is a pixel of predicted probability p a mitochondrion? The model is q(p) = sigmoid(b (logit p - c)): c moves
the probability at which a pixel is as often one as the other, b says how sure the network may be. With a histogram H of
the volume's probabilities, masks above a threshold t have an expected overlap of

    JAC(t) = sum_{p > t} H q / (sum_{p > t} H + sum_{p <= t} H q),

and the threshold is where that is largest, with q averaged over the posterior of (c, b).

Points at places that chance chose, evenly or by their probability p alone, are Bernoulli draws of q. Points that a
person chose are not: there are as many on mitochondria as was wished. Given their class they are taken for random (the
retrospective likelihood of case-control studies): a point on a mitochondrion then has the density H q / sum H q, one on
background H (1 - q) / sum H (1 - q).
"""

from dataclasses import dataclass

import numpy as np
from scipy import special  # not stats, whose import takes half a second

from dualrel_jax.data.io.points import DRAWN, Points
from dualrel_jax.metrics.segmentation import BINS

# Standard deviations of c and of log b before any point is seen. Half of both lose 4 points of JAC from Lucchi to VNC,
# where c is far below 0, and gain 1 where 0.5 is right.
PRIOR_SHIFT, PRIOR_LOG_SLOPE = 1.5, 0.5
_SHIFTS, _SLOPES = np.linspace(-6, 6, 97), np.exp(np.linspace(-1.5, 1.5, 25))
_TRUSTED = 0.02, 0.98
# Mean probability of points on background minus that of points on mitochondria. Of a poor model, JAC 0.5 to 0.7, on its
# own tissue and on fly brain: below 0 in 361 tables of 6 to 30 right points; above this with exchanged classes in all
# of 264 tables of 10 or more, and in 93 of 97 of 6.
EXCHANGED = 0.1


@dataclass(frozen=True)
class PointThreshold:
    """What points lead to.

    Attributes:
        threshold: of the mask.
        jac: its expected overlap with the true mask.
        fraction: of the volume that is expected to be mitochondrion, and `interval`, its 95 % credible interval.
        means: mean probability of the points on mitochondria, and of those on background; 0.5 of none.
        counted: 95 % interval of the fraction by counting random points alone (Jeffreys); None for chosen ones.
    """

    threshold: float
    jac: float
    fraction: float
    interval: tuple[float, float]
    means: tuple[float, float]
    counted: tuple[float, float] | None

    def describe(self) -> str:
        text = f"The points lead to a threshold of {self.threshold:.2f}; mitochondria are expected to fill "
        text += f"{self.fraction:.1%} of the volume ({self.interval[0]:.1%} to {self.interval[1]:.1%})"
        if self.counted:
            text += f", by counting the points alone {self.counted[0]:.1%} to {self.counted[1]:.1%}"
        text += f". The expected overlap (JAC) is {self.jac:.0%}."
        mitochondrion, background = self.means
        if mitochondrion < background - EXCHANGED:
            text += (
                f" The classes seem exchanged: points on mitochondria have a mean probability of {mitochondrion:.2f}, "
                f"those on background {background:.2f}; expected the higher on mitochondria, class 1: correct the "
                "table and predict again."
            )
        return text


def threshold_of_points(probability: np.ndarray, histogram: np.ndarray, points: Points) -> PointThreshold:
    """The threshold of largest expected overlap.

    Args:
        probability: predicted at each point, n.
        histogram: pixels of the volume by probability, as `metrics.segmentation.probability_histogram` gives it.
        points: their classes, and how their places were drawn.
    """
    is_mitochondrion = points.is_mitochondrion
    bins = _logit((np.arange(BINS + 1) + 0.5) / (BINS + 1))
    density = histogram / max(histogram.sum(), 1)
    shift, slope = (grid.ravel() for grid in np.meshgrid(_SHIFTS, _SLOPES, indexing="ij"))
    q_bins = special.expit(slope[:, None] * (bins - shift[:, None]))  # models, bins
    fractions = q_bins @ density
    log_posterior = -0.5 * ((shift / PRIOR_SHIFT) ** 2 + (np.log(slope) / PRIOR_LOG_SLOPE) ** 2)  # and a constant
    arguments = slope[:, None] * (_logit(probability) - shift[:, None])
    signs = np.where(is_mitochondrion, 1, -1)
    log_posterior += -np.logaddexp(0, -signs * arguments).sum(axis=1)
    if points.drawn not in DRAWN:
        count = int(np.sum(is_mitochondrion))
        log_posterior -= count * np.log(fractions + 1e-12) + (len(signs) - count) * np.log(1 - fractions + 1e-12)
    weights = np.exp(log_posterior - log_posterior.max())
    weights /= weights.sum()
    q = weights @ q_bins
    jac = _expected_jac(density, q)
    inside = slice(int(_TRUSTED[0] * BINS), int(_TRUSTED[1] * BINS) + 1)
    best = inside.start + int(np.argmax(jac[inside]))
    order = np.argsort(fractions)
    below = np.cumsum(weights[order])
    interval = tuple(float(fractions[order][np.searchsorted(below, level)]) for level in (0.025, 0.975))
    means = tuple(float(np.mean(probability[of])) if of.any() else 0.5 for of in (is_mitochondrion, ~is_mitochondrion))
    fraction = float(weights @ fractions)
    return PointThreshold(best / BINS, float(jac[best]), fraction, interval, means, _counted(points))


def _expected_jac(density: np.ndarray, q: np.ndarray) -> np.ndarray:
    """At thresholds 0, 1, ... BINS, in bins."""
    hit, all_hits = np.cumsum((density * q)[::-1])[::-1], density @ q
    predicted = np.cumsum(density[::-1])[::-1]
    return hit / np.maximum(predicted + all_hits - hit, 1e-12)


def _counted(points: Points) -> tuple[float, float] | None:
    if points.drawn != "random":
        return None
    count, n = int(points.is_mitochondrion.sum()), len(points)
    low, high = special.betaincinv(count + 0.5, n - count + 0.5, (0.025, 0.975))
    return (0.0 if count == 0 else float(low), 1.0 if count == n else float(high))


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1 / 512, 1 - 1 / 512)  # the probability on disk has 8 bits
    return np.log(p / (1 - p))
