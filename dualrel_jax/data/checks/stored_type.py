"""Check whether the pixels of an image are read in the type and byte order that they were written in."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dualrel_jax.data.checks.finding import Finding
from dualrel_jax.data.io.volume import RANGE_QUANTILES

# Measured on Lucchi, both stacks of VNC, a fly brain, a muscle and the phantom, each in 28 ways: whole numbers of 8 to
# 32 bits with and without sign, real ones, saturated, framed, with hot pixels, with noise of once and twice their
# deviation. No alarm in 168. In single slices as published neighbours correlate by 0.67 or more and 0.01 % of them are
# jumps; with twice the noise by 0.14 or more, and the 30 % of jumps stay in every reading. Where 1 % of the pixels are
# wrapped, 1.0 % or more are jumps, all are gone in the right reading, and the correlation gains 0.18 or more.
_JUMPS, _GONE, _GAIN = 0.01, 0.1, 0.1  # jumps: fraction of right neighbours apart by more than half of the type's range
_UNRELATED = 0.1  # correlation; with the bytes in the wrong order up to 0.04
# Correlation of every second column with its next one minus that with the column between. Measured on these and four
# masks in 19 ways, 209 in all: at most 0.004. Of 16 bits read as 8, in 32 ways a tissue, 0.12 or more; but where both
# bytes are equal (8 bits times 257) it is below 0.
_APART = 0.1


def check_stored_type(path: str, windows: Sequence[np.ndarray]) -> Iterator[Finding]:
    """Whether neighbours are unrelated, belong to two images, or are more alike with another sign or byte order.

    Args:
        path: for messages.
        windows: parts `y x` of slices, none of them constant.
    """
    if windows[0].dtype.kind in "iu" and _columns_apart(windows) > _APART:
        bits = 8 * windows[0].dtype.itemsize
        yield Finding(
            f"Every second column of {path} shows another image: it seems to hold values of {2 * bits} bits, and is "
            f"read as {windows[0].dtype}, so that each pixel becomes two. Correct type and width in its header, or "
            f"export it again (Fiji: File > Import > Raw, {2 * bits}-bit, then File > Save As > Tiff).",
            look=True,
        )
        return
    stored, jumps = _likeness(windows), _jumps(windows) if windows[0].dtype.kind in "iu" else 0.0
    readings = {}
    for change, read in _readings(windows[0].dtype):
        changed = [read(window) for window in windows]
        if _jumps(changed) <= _GONE * jumps:
            readings[change] = _likeness(changed)
    best = max(readings, key=readings.get, default="")
    if jumps > _JUMPS and readings and readings[best] > stored + _GAIN:
        yield Finding(
            f"{path} seems to hold other values than its type {windows[0].dtype} makes of them: {jumps:.0%} of "
            f"neighbouring pixels differ by more than half of its range, and hardly any after {best}. Correct it in "
            f"Python: tifffile.imwrite('corrected.tif', dualrel_jax.open_volume('{path}')[:].{best}).",
            look=True,
        )
    elif stored < _UNRELATED:
        yield Finding(
            f"Neighbouring pixels of {path} are unrelated (they correlate by {stored:.2f}): its byte order or width "
            "may be wrong; export it again, and see in Fiji that it shows an image.",
            look=True,
        )


def _readings(dtype: np.dtype) -> Iterator[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """(Python that reads whole numbers with another sign, byte order or both, that as a function)."""
    if dtype.kind not in "iu":
        return
    other = np.dtype(f"{'u' if dtype.kind == 'i' else 'i'}{dtype.itemsize}")
    yield f"view('{other}')", lambda window: window.view(other)
    if dtype.itemsize > 1:
        yield "byteswap()", lambda window: window.byteswap()
        yield f"byteswap().view('{other}')", lambda window: window.byteswap().view(other)


def _jumps(windows: Sequence[np.ndarray]) -> float:
    """Median over windows of the fraction of right neighbours that differ by more than half of the type's range."""
    half = 2.0 ** (8 * windows[0].dtype.itemsize - 1)
    steps = (np.diff(window.astype(float)) for window in windows)
    return float(np.median([(np.abs(step) > half).mean() if step.size else 0 for step in steps]))


def _columns_apart(windows: Sequence[np.ndarray]) -> float:
    """Median over windows: how much better a column correlates with the one after the next than with the next.

    Low and high bytes of wider values lie in columns by turns; one of the two is an image, with the other between.
    """
    apart = []
    for window in windows:
        even, odd = (_clipped(window[:, first : window.shape[1] // 2 * 2 : 2]) for first in (0, 1))
        within = max(_correlation(columns[:, 1:], columns[:, :-1]) for columns in (even, odd))
        apart.append(within - _correlation(even, odd))
    return float(np.median(apart))


def _likeness(windows: Sequence[np.ndarray]) -> float:
    """Median over windows of the correlation with the next row or column, whichever is higher; 0 where undefined."""
    with np.errstate(all="ignore"):  # real numbers in the wrong byte order are huge, or none
        return float(np.median([max(_correlations(window)) for window in windows]))


def _correlations(window: np.ndarray) -> Iterator[float]:
    values = _clipped(window)
    yield _correlation(values[:, 1:], values[:, :-1])
    yield _correlation(values[1:], values[:-1])


def _clipped(window: np.ndarray) -> np.ndarray:
    """Finite and within the usual range, or else a few hot pixels decide."""
    values = np.nan_to_num(window.astype(float), nan=0, posinf=0, neginf=0)
    return values.clip(*np.quantile(values, RANGE_QUANTILES)) if values.size else values


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """0 where it is undefined."""
    if not a.size:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    with np.errstate(all="ignore"):
        correlation = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    return float(correlation) if np.isfinite(correlation) else 0.0
