"""Rules: what a user may ask for of how coordinates turn into taps."""

from typing import NamedTuple

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
