"""The sampler: one primitive over interchangeable backends.

`pull` reads an image at the points of a grid, `push` is its adjoint. From the top down:
`primitive` says what JAX must know of them (derivatives, batching), `backends` how they are
computed, on which devices (`placement`), `neighbours` which pixels a point has around it, `taps`
which along one axis, by its `padding` and `interpolation`; `spec` is what is known of a call
before any number is, `rules` what of it a user may choose, which `arguments` checks.
"""

from jaxwarp._sampler.arguments import checked_rule
from jaxwarp._sampler.primitive import pull, push
from jaxwarp._sampler.rules import PaddingMode, Rule
from jaxwarp._sampler.spec import SampleSpec

__all__ = ["PaddingMode", "Rule", "SampleSpec", "checked_rule", "pull", "push"]
