"""How far apart two arrays are, entry by entry, and how far apart they may be."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Tolerance(NamedTuple):
    """The largest allowed difference and what counts as magnitude one, for each entry."""

    allowed: np.ndarray
    scale: np.ndarray


class Measured(NamedTuple):
    """The worst difference of one comparison in ulp, what is allowed there, the largest share."""

    ulp: float
    allowed_ulp: float
    share: float


EQUAL = Tolerance(np.array(0.0), np.array(1.0))


def same(
    what: str, ours: npt.ArrayLike, theirs: npt.ArrayLike, tolerance: Tolerance, eps: float
) -> Measured:
    """Measure how far apart two arrays are, and fail if that is more than allowed.

    NaN equals NaN here, and an infinity itself.

    Args:
        what: What is compared, for the message.
        ours: Array.
        theirs: Array of the same shape and dtype.
        tolerance: What is allowed, and what counts as magnitude one; each broadcasts.
        eps: The machine epsilon of the precision that both were computed in: one ulp is eps
            times an entry's magnitude.

    Returns:
        The worst difference in ulp, and what share of the allowed was used at most.

    Raises:
        AssertionError: Shapes, dtypes or entries differ; names where, by how much, and how
            much was allowed.

    Example:
        >>> import numpy as np
        >>> tolerance = Tolerance(np.array(1e-6), np.array(1.0))
        >>> same("sum", np.float32([3]), np.float32([3]), tolerance, 1.2e-7).ulp
        0.0
    """
    found = complaint(ours, theirs, tolerance)
    if found:
        raise AssertionError(f"{what}: {found}")
    return measure(ours, theirs, tolerance, eps)


def measure(
    ours: npt.ArrayLike, theirs: npt.ArrayLike, tolerance: Tolerance, eps: float
) -> Measured:
    """Measure the differences of two arrays that are the same to within the tolerance."""
    error = errors(ours, theirs)
    if not error.size:
        return Measured(0.0, 0.0, 0.0)
    allowed, scale = (np.broadcast_to(t, error.shape) for t in tolerance)
    unit = eps * np.where(scale > 0, scale, 1)
    share = np.divide(error, allowed, out=np.zeros_like(error), where=allowed > 0)
    ulp, at = error / unit, np.argmax(error / unit)
    return Measured(*(float(x) for x in (ulp.flat[at], (allowed / unit).flat[at], share.max())))


def errors(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> np.ndarray:
    """Return the differences, zero where both are NaN or the same infinity."""
    a, b = wide(ours), wide(theirs)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.where(equal, 0.0, np.abs(a - b))


def wide(x: npt.ArrayLike) -> np.ndarray:
    """Return numbers of any dtype at float64, or complex128."""
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def complaint(ours: npt.ArrayLike, theirs: npt.ArrayLike, tolerance: Tolerance) -> str:
    """Say in what way two arrays differ by more than allowed; nothing if they don't."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        return f"{ours.dtype}{ours.shape} against {theirs.dtype}{theirs.shape}"
    error = errors(ours, theirs)
    allowed = np.broadcast_to(tolerance.allowed, error.shape)
    over = ~(error <= allowed)  # a NaN on one side only is over
    if not over.any():
        return ""
    excess = np.where(over, np.nan_to_num(error, nan=np.inf) - allowed, -np.inf)
    at = tuple(int(i) for i in np.unravel_index(np.argmax(excess), error.shape))
    nan = np.isnan(wide(ours)) != np.isnan(wide(theirs))
    return (
        f"{int(over.sum())} of {over.size} entries differ by more than allowed; "
        + (f"NaN on one side only in {int(nan.sum())}; " if nan.any() else "")
        + f"worst at {at}: {wide(ours)[at].item()!r} against {wide(theirs)[at].item()!r}, "
        f"difference {error[at]:.3g}, allowed {allowed[at]:.3g}"
    )
