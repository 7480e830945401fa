"""What the suite's cases add to the parity table of `jaxwarp.testing.plugin`."""

import numpy.typing as npt

from jaxwarp.testing import Tolerance, plugin
from parity_tests.harness.cases import Case


class Parity:
    """Compares on behalf of one test; the case says which row of the table that belongs to."""

    def __init__(self, notes: plugin.Parity) -> None:
        self._notes = notes

    def same(
        self,
        case: Case,
        what: str,
        ours: npt.ArrayLike,
        theirs: npt.ArrayLike,
        tolerance: Tolerance,
        eps: float | None = None,
    ) -> None:
        """Fail unless ``ours`` is the same as ``theirs``; note the difference."""
        labels = {
            "operation": case.op,
            "mode": case.mode,
            "padding": case.padding,
            "dtype": case.dtype,
        }
        eps = case.eps if eps is None else eps
        self._notes.same(labels, str(case), what, ours, theirs, tolerance, eps)
