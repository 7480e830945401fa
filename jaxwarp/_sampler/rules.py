"""Rules: how a call turns coordinates into taps, and what a user may ask for."""

from typing import Any, NamedTuple

from jaxwarp import _checks
from jaxwarp._sampler.interpolation import KERNELS
from jaxwarp._sampler.padding import PADDINGS

# One name for all axes, or one for each.
PaddingMode = str | tuple[str, ...]


class Rule(NamedTuple):
    """How coordinates turn into taps: the static part of a sampling operation.

    ``padding_mode`` is one for all axes, or one for each in array order.
    """

    mode: str
    padding_mode: PaddingMode
    align_corners: bool
    normalized: bool = True

    @property
    def degree(self) -> int:
        """The highest derivative of the weights that is not zero everywhere."""
        return KERNELS[self.mode].degree

    @property
    def taps(self) -> int:
        """How many pixels a position reads along an axis."""
        return len(KERNELS[self.mode].offsets)

    def padding_modes(self, axes: int) -> tuple[str, ...]:
        """Return the padding mode of each of so many axes, or raise if there are others."""
        modes = self.padding_mode
        if isinstance(modes, str):
            return (modes,) * axes
        if len(modes) != axes:
            raise ValueError(
                f"padding_mode must be one name, or one for each of the {axes} spatial axes in"
                f" array order, got {modes!r}"
            )
        return modes


class AxisRule(NamedTuple):
    """A rule along one axis, with the padding mode that it has there."""

    mode: str
    padding_mode: str
    align_corners: bool
    normalized: bool


def checked_rule(mode: Any, padding_mode: Any, align_corners: Any, normalized: bool) -> Rule:
    """Return the rule that a user's arguments ask for, or raise."""
    return Rule(
        _checks.choice("mode", mode, KERNELS),
        _checked_paddings(padding_mode),
        _checks.flag("align_corners", align_corners),
        normalized,
    )


def _checked_paddings(padding_mode: Any) -> PaddingMode:
    if isinstance(padding_mode, tuple | list):
        return tuple(_checks.choice("padding_mode", mode, PADDINGS) for mode in padding_mode)
    return _checks.choice("padding_mode", padding_mode, PADDINGS)
