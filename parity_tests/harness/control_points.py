"""Control points of every kind, and SciPy's splines through them."""

import numpy as np

# SciPy's names for the kernels of 1, 2 and 3 axes.
KERNELS = {1: "cubic", 2: "thin_plate_spline", 3: "linear"}


def scipy_spline(target, source, points, smoothing=0.0):
    """SciPy's float64 answer for one batch element."""
    from scipy.interpolate import RBFInterpolator  # here, as its import takes most of a second

    target, source, points = (np.asarray(x, np.float64) for x in (target, source, points))
    kernel = KERNELS[target.shape[1]]
    return RBFInterpolator(target, source, kernel=kernel, degree=1, smoothing=smoothing)(points)


# Control points ----------------------------------------------------------------


def lattice(per_axis: int, n: int = 2) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1, 1, per_axis)] * n, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, n)


def scattered(count: int, n: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, n))


def clustered(count: int, n: int = 2) -> np.ndarray:
    """Three points in four lie within a few hundredths of one place."""
    random = np.random.default_rng(1)
    near = 0.3 + 0.02 * random.standard_normal((count - count // 4, n))
    return np.concatenate([scattered(count // 4, n), near])


def far_off(count: int, n: int = 2) -> np.ndarray:
    return 100 + scattered(count, n)


def bent(points: np.ndarray) -> np.ndarray:
    """Move points smoothly, and not by an affine map."""
    return points + 0.1 * np.sin(3 * points[..., ::-1] + 1)


def shaken(points: np.ndarray, by: float = 0.05, seed: int = 2) -> np.ndarray:
    return points + by * np.random.default_rng(seed).standard_normal(points.shape)


def pixel_centers(*size: int) -> np.ndarray:
    """The identity grid's points (x, y, z), align_corners=False."""
    axes = np.meshgrid(*[(2 * np.arange(s) + 1 - s) / s for s in size], indexing="ij")
    return np.stack(axes[::-1], axis=-1).reshape(-1, len(size))
