"""Rows that show how the cost grows with the work: the time of one value should not."""

from collections.abc import Iterator

from parity_tests.benchmark import sampling
from parity_tests.benchmark._timing import Row
from parity_tests.benchmark.sampling import Case


def rows() -> Iterator[Row]:
    """Yield batches of 1 to 8 times two images, then 1 to 16 times the pixels."""
    shapes = {f"batch x{k}": (2 * k, 16, 64, 64) for k in (1, 2, 4, 8)}
    shapes |= {f"pixels x{k * k}": (2, 16, 64 * k, 64 * k) for k in (1, 2, 4)}
    for direction in sampling.DIRECTIONS:
        for label, shape in shapes.items():
            case = Case(shape)
            name = f"{label}: {case}"
            yield sampling.row(f"scaling: {direction}", case, direction, name, quick=False)
