"""Plain gradient descent on both sides, towards the same targets."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch

from jaxwarp.testing._operands import named_leaves
from jaxwarp.testing._question import AFTER


@dataclasses.dataclass(frozen=True)
class OurDescent:
    """The losses of our module while it learns."""

    call: Any
    steps: int
    rate: float

    def __call__(self, extras, parameters, buffers, targets, *inputs):
        """Return the losses before each step."""

        def loss(parameters, buffers):
            result, after = self.call(extras, parameters, buffers, *inputs)
            return _loss(named_leaves("ours", result), targets), _without_prefix(after)

        def step(carry, _):
            parameters, buffers = carry
            slope = jax.value_and_grad(loss, has_aux=True)
            (value, buffers), gradient = slope(parameters, buffers)
            new = jax.tree.map(
                lambda p, g: p - jnp.asarray(self.rate, p.dtype) * g, parameters, gradient
            )
            return (new, buffers), value

        return jax.lax.scan(step, (parameters, buffers), length=self.steps)[1], {}


@dataclasses.dataclass(frozen=True)
class TheirDescent:
    """The losses of torch's module while it learns."""

    theirs: Any
    steps: int
    rate: float

    def context(self) -> Any:
        """Return what is in force while the module computes."""
        return self.theirs.context()

    def __call__(self, parameters, buffers, targets, *inputs):
        """Return the losses before each step."""
        losses = []
        with torch.enable_grad():
            for _ in range(self.steps):
                parameters = {n: p.detach().requires_grad_() for n, p in parameters.items()}
                # The module may write into buffers, but not into leaves of the graph.
                copies = {n: p.clone() for n, p in parameters.items()}
                result, after = self.theirs(copies, buffers, *inputs)
                buffers = _without_prefix(after)
                loss = _loss(named_leaves("theirs", result), targets)
                slopes = torch.autograd.grad(
                    loss, list(parameters.values()), allow_unused=True, materialize_grads=True
                )
                pairs = zip(parameters.items(), slopes, strict=True)
                parameters = {n: p - self.rate * g for (n, p), g in pairs}
                losses.append(loss.detach())
        return torch.stack(losses), {}


def _loss(result: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Return the mean square distance from the targets, summed over the results."""
    each = [((result[name] - target) ** 2).mean() for name, target in targets.items()]
    return sum(each[1:], each[0])


def _without_prefix(after: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(AFTER): x for name, x in after.items()}
