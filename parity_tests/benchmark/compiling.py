"""Rows of the first call: tracing, compiling and running, as a new process would."""

from collections.abc import Callable, Iterator

import jax

from parity_tests.benchmark import sampling
from parity_tests.benchmark._timing import Row
from parity_tests.benchmark.sampling import Case

CASES = (
    Case((2, 3, 64, 64)),
    Case((2, 3, 64, 64), "nearest"),
    Case((2, 3, 64, 64), "bicubic"),
    Case((2, 3, 16, 24, 24)),
    Case((2, 3, 16, 24, 24), "bicubic"),
)


def rows() -> Iterator[Row]:
    """Yield every mode and number of axes up to 3-D bicubic."""
    for direction in sampling.DIRECTIONS:
        for case in CASES:
            calls = {
                layout: _first_call(case, direction, layout)
                for layout in ("jaxwarp", "jaxwarp channels last")
            }
            quick = case == CASES[0]
            yield Row(f"first call: {direction}", str(case), calls, quick=quick)


def _first_call(case: Case, direction: str, contender: str) -> Callable[[], object]:
    arrays = sampling.operands(case)

    def call() -> object:
        jax.clear_caches()
        return sampling.contenders(case, direction, *arrays)[contender]()

    return call
