"""The one table of errors: calls that must fail, of every public function."""

from parity_tests.harness.wrong_calls import (
    convolutions,
    flows,
    grids,
    interop,
    matrices,
    modules,
    objects,
    sampling,
    splines,
)
from parity_tests.harness.wrong_calls.row import Wrong, must_fail, public

TABLE: list[Wrong] = [
    *sampling.TABLE,
    *grids.TABLE,
    *matrices.TABLE,
    *flows.TABLE,
    *splines.TABLE,
    *objects.TABLE,
    *modules.TABLE,
    *convolutions.TABLE,
    *interop.TABLE,
]

__all__ = ["TABLE", "Wrong", "must_fail", "public"]
