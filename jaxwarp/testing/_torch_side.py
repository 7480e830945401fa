"""Torch's answer to a question."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxwarp.testing._devices import torch_device
from jaxwarp.testing._operands import Operands, named_leaves
from jaxwarp.testing._question import Question, Side, differentiated_twice

Answer = dict[str, np.ndarray]
Context = Callable[[], AbstractContextManager[Any]]


def tensor(name: str, x: np.ndarray) -> torch.Tensor:
    """Copy an array to torch's device."""
    try:
        if x.dtype == jnp.bfloat16:
            return torch.tensor(x.astype(np.float32), device=torch_device()).bfloat16()
        return torch.tensor(x, device=torch_device())
    except TypeError as error:
        raise TypeError(f"{name}: torch has no tensors of {x.dtype}") from error


def array(x: torch.Tensor) -> np.ndarray:
    """Copy a tensor back."""
    x = x.detach().cpu().resolve_conj().resolve_neg()
    return x.float().numpy().astype(jnp.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()


def values(theirs: Side, operands: Operands) -> Answer:
    """Evaluate the function."""
    with torch.no_grad(), _own(theirs):
        result, after = _called(theirs, operands, _tensors(operands))
    return {name: array(x) for name, x in (result | after).items()}


def answer(theirs: Side, question: Question, context: Context = nullcontext) -> Answer:
    """Return values and derivatives by name, computed inside ``context``."""
    operands = question.operands
    leaves = _tensors(operands)
    moving = [leaves[i].requires_grad_() for i in operands.differentiated]
    with torch.enable_grad(), _own(theirs), context():
        result, after = _called(theirs, operands, leaves)
        found = {name: array(x) for name, x in (result | after).items()}
        if question.order or question.forward:
            ct = {n: tensor(n, c).requires_grad_() for n, c in question.cotangents.items()}
            found |= _derivatives(question, result, moving, ct)
    return found


def _tensors(operands: Operands) -> list[torch.Tensor]:
    return [tensor(n, x) for n, x in zip(operands.names, operands.leaves, strict=True)]


def _called(theirs, operands, leaves) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    # Copies, because torch refuses to write into a leaf of the graph, as nn.ReLU(True) may.
    copies = [x.clone() for x in leaves]
    result, after = theirs(*jax.tree.unflatten(operands.structure, copies))
    named = named_leaves("theirs", result)
    return {name: _as_tensor(name, x) for name, x in named.items()}, dict(after)


def _as_tensor(name: str, x: Any) -> torch.Tensor:
    if isinstance(x, torch.Tensor):
        return x
    if isinstance(x, bool | int | float | np.ndarray | np.generic):
        return torch.as_tensor(x)
    raise TypeError(f"theirs must return tensors, got {type(x).__name__} as {name}")


def _derivatives(
    question: Question,
    result: Mapping[str, torch.Tensor],
    moving: list[torch.Tensor],
    cotangents: Mapping[str, torch.Tensor],
) -> Answer:
    names = [question.operands.names[i] for i in question.operands.differentiated]
    reached = [name for name in cotangents if result[name].requires_grad]
    outputs, weights = [result[n] for n in reached], [cotangents[n] for n in reached]
    twice = question.wants_tangents()
    found: Answer = {}
    gradients = _gradients(outputs, moving, weights, twice)
    if question.order:
        found |= {f"d {n}": array(g) for n, g in zip(names, gradients, strict=True)}
    if twice:
        # <vjp(c), u> = <c, J u> is linear in c: what multiplies c is the forward derivative,
        # of which not every operation of torch has one of its own.
        tangents = [tensor(n, u) for n, u in zip(names, question.tangents, strict=True)]
        inner = torch.stack([(g * u).sum() for g, u in zip(gradients, tangents, strict=True)])
        leaves = [*cotangents.values(), *moving]
        found |= _second(question, names, _gradients([inner.sum()], leaves, None, False))
    return found


def _second(question: Question, names: list[str], gradients: list[torch.Tensor]) -> Answer:
    count = len(question.cotangents)
    pushed = zip(question.cotangents, gradients[:count], strict=True)
    found = {f"J u of {n}": array(g) for n, g in pushed}
    if question.order > 1:
        pairs = zip(names, gradients[count:], strict=True)
        found |= {differentiated_twice(n): array(g) for n, g in pairs}
    return found


def _gradients(outputs, inputs, weights, create_graph: bool) -> list[torch.Tensor]:
    if not any(y.requires_grad for y in outputs):
        return [torch.zeros_like(x) for x in inputs]
    options = {"create_graph": create_graph, "allow_unused": True, "materialize_grads": True}
    return list(torch.autograd.grad(outputs, inputs, weights, **options))


def _own(theirs: Any) -> AbstractContextManager[Any]:
    """Return what is in force while theirs computes, outside of what suspects change."""
    return getattr(theirs, "context", nullcontext)()
