"""What one comparison found."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxwarp.testing._measure import Measured


class Row(NamedTuple):
    """One pair of arrays: what they are, in which precision, and how far apart they were."""

    what: str
    dtype: str
    measured: Measured


class Report(NamedTuple):
    """All that was compared of one function or module; printed, a table.

    Attributes:
        name: What was compared.
        rows: The pairs of arrays, in order.
        notes: What was taken for granted, in words.

    Example:
        >>> print(Report("f", (Row("value", "float64", Measured(1.5, 64.0, 0.02)),)))
        f      dtype    ulp  allowed  of allowed
        value  float64  1.5  64       2%
    """

    name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        head = [self.name, "dtype", "ulp", "allowed", "of allowed"]
        return "\n".join([*aligned([head, *map(_cells, self.rows)]), *self.notes])


def _cells(row: Row) -> list[str]:
    ulp, allowed, share = row.measured
    return [row.what, row.dtype, two_digits(ulp), two_digits(allowed), f"{share:.0%}"]


def two_digits(x: float) -> str:
    """Write a number with two digits that count, without an exponent while it is short."""
    return f"{float(f'{x:.2g}'):g}"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose columns start below each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in table]
    return ["  ".join(row).rstrip() for row in padded]
