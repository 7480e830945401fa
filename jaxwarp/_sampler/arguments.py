"""Checks of what a user asks the sampler for."""

from jaxwarp import _checks
from jaxwarp._sampler.interpolation import KERNELS
from jaxwarp._sampler.padding import PADDINGS
from jaxwarp._sampler.rules import PaddingMode, Rule


def checked_rule(
    mode: str,
    padding_mode: PaddingMode | list[str],
    align_corners: bool | None,
    normalized: bool,
) -> Rule:
    """Return the rule that a user's arguments ask for, or raise."""
    return Rule(
        _checks.choice("mode", mode, KERNELS),
        _checked_paddings(padding_mode),
        _checks.flag("align_corners", align_corners),
        normalized,
    )


def _checked_paddings(padding_mode: PaddingMode | list[str]) -> PaddingMode:
    if isinstance(padding_mode, tuple | list):
        return tuple(_checks.choice("padding_mode", mode, PADDINGS) for mode in padding_mode)
    return _checks.choice("padding_mode", padding_mode, PADDINGS)
