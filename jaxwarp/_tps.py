"""Thin-plate splines: the smoothest map that takes given points to given points."""

from jaxwarp._tps_operator import ThinPlateOperator, tps_operator

__all__ = ["ThinPlateOperator", "tps_operator"]
