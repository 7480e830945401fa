"""The sampler: one primitive over interchangeable backends.

`pull` reads an image at the points of a grid, `push` is its adjoint. From the top down:
`primitive` says what JAX must know of them (derivatives, batching, lowering), `backends` how
they are computed, `neighbours` which pixels a point has around it, `taps` which along one axis,
by its `padding` and `interpolation`; `spec` is what is known of a call before any number is,
`rules` what of it a user may choose.
"""

from jaxwarp._sampler.backends import backend_of
from jaxwarp._sampler.primitive import pull, push
from jaxwarp._sampler.rules import PaddingMode, Rule, checked_rule
from jaxwarp._sampler.spec import SampleSpec

__all__ = ["PaddingMode", "Rule", "SampleSpec", "backend_of", "checked_rule", "pull", "push"]
