"""Torch's answer to every case."""

import numpy as np
import torch

from jaxwarp.testing import torch_device, torch_device_name, use_torch_device
from parity_tests.harness import cases, patches_torch, torch_operations
from parity_tests.harness.cases import Case, Problem

use_device, device_name = use_torch_device, torch_device_name


def uses_cudnn(case: Case) -> bool:
    """Whether `first_order` runs on cuDNN, as torch does by default on CUDA.

    Exact cases run on torch's own kernel: on a kink cuDNN takes whichever side it comes to.
    """
    options = ("grid_sample", "bilinear", "zeros", True)
    asked = (case.op, case.mode, case.padding, case.align_corners) == options
    on_cuda = torch_device().startswith("cuda")
    return on_cuda and asked and case.axes < 3 and not case.exact


def tensor(x: np.ndarray) -> torch.Tensor:
    """Copy an array to torch's device."""
    return torch.tensor(x, device=torch_device())


def array(x: torch.Tensor) -> np.ndarray:
    """Copy a tensor back."""
    return x.detach().cpu().numpy()


# The operations --------------------------------------------------------------


def function(case: Case, size: tuple[int, ...]):
    """Return the case's operation as a function of its operands alone."""
    f = getattr(patches_torch if case in cases.OBJECT_CASES else torch_operations, case.op)
    return _WITH_OPTIONS.get(case.op, lambda f, case, size: f)(f, case, size)


# What has more arguments than its operands.
_WITH_OPTIONS = {
    "grid_sample": lambda f, case, size: (
        lambda image, grid: f(image, grid, case.mode, case.padding, case.align_corners)
    ),
    "remap": lambda f, case, size: (
        lambda image, positions: f(image, positions, case.mode, case.padding)
    ),
    "splat": lambda f, case, size: (
        lambda values, grid: f(values, grid, size, case.mode, case.padding, case.align_corners)
    ),
    "affine_grid": lambda f, case, size: lambda theta: f(theta, size, case.align_corners),
    "homography_grid": lambda f, case, size: lambda theta: f(theta, size, case.align_corners),
    "flow_grid": lambda f, case, size: lambda flow: f(flow, case.align_corners),
    "tps_grid": lambda f, case, size: (
        lambda target, source: f(target, source, size, case.align_corners)
    ),
    "patch_affine": lambda f, case, size: (
        lambda img, theta: f(
            img,
            cases.BOXES[:, [1, 0, 3, 2]].tolist(),
            theta,
            cases.OWNERS.tolist(),
            mode=case.mode,
            padding_mode=case.padding,
            align_corners=case.align_corners,
        )
    ),
    "crop_and_resize": lambda f, case, size: (
        lambda img, boxes: f(
            img,
            boxes,
            cases.OWNERS.tolist(),
            cases.PATCH,
            mode=case.mode,
            padding_mode=case.padding,
        )
    ),
    "paste": lambda f, case, size: (
        lambda canvas, patches, boxes: f(
            canvas, patches, boxes, cases.OWNERS.tolist(), mode=case.mode
        )
    ),
}


# The lenses ------------------------------------------------------------------


def value(problem: Problem) -> np.ndarray:
    """Evaluate the operation."""
    f = function(problem.case, problem.size)
    return array(f(*map(tensor, problem.operands.values())))


def first_order(problem: Problem, cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the value and the gradient of every operand."""
    f = function(problem.case, problem.size)
    operands = [tensor(x).requires_grad_() for x in problem.operands.values()]
    with torch.backends.cudnn.flags(enabled=uses_cudnn(problem.case)):
        result = f(*operands)
        gradients = torch.autograd.grad(result, operands, tensor(cotangent), materialize_grads=True)
    return tuple(map(array, (result, *gradients)))


def second_order(problem: Problem, cotangent, tangents) -> tuple[np.ndarray, ...]:
    """Return J u and, for every operand, the gradient of <c, J u>, by double backward.

    The vector-Jacobian product is linear in the cotangent c, so what multiplies c in
    <vjp(c), u> = <c, J u> is the forward derivative that torch has no mode of its own for.
    """
    f = function(problem.case, problem.size)
    operands = [tensor(x).requires_grad_() for x in problem.operands.values()]
    c = tensor(cotangent).requires_grad_()
    zero = torch.zeros((), dtype=c.dtype, device=c.device)
    with torch.backends.cudnn.flags(enabled=False):  # it has no double backward
        pulled = torch.autograd.grad(f(*operands), operands, c, create_graph=True)
        s = sum(((g * tensor(u)).sum() for g, u in zip(pulled, tangents, strict=True)), zero)
        results = torch.autograd.grad(s, (c, *operands), materialize_grads=True)
    return tuple(map(array, results))
