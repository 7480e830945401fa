"""Backends: what the primitive computes, written for one kind of machine each.

A backend is a module with three functions, ``sample``, ``splat`` and ``correlate``, each of
(operands, spec), and ``supports``, which tells whether it can compute a call. All compute the
same sums; `portable` is the one that the others are compared with, and what runs wherever no
other form does. Which one it is, is settled here, when the primitive is lowered: nothing that
samples knows of backends, and `jaxwarp` itself imports them.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import cast

import jax
from jax.core import ShapedArray
from jax.interpreters import mlir

from jaxwarp import _checks
from jaxwarp._sampler import placement
from jaxwarp._sampler.backends import cpu, gpu, portable, tpu
from jaxwarp._sampler.primitive import sample_p
from jaxwarp._sampler.spec import SampleSpec
from jaxwarp._sharding import devices_sharing

BACKENDS = {"portable": portable, "cpu": cpu, "gpu": gpu, "tpu": tpu}
_OF_PLATFORM = {"cpu": "cpu", "gpu": "gpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}
_VARIABLE = "JAXWARP_BACKEND"

# For tests: ``with forced("portable"): ...``. Part of what `jax.jit` looks programs up by.
forced = jax.make_user_context(None)


def _choose(
    platform: str | None, op: str, avals: Mapping[str, ShapedArray], spec: SampleSpec
) -> ModuleType:
    """Return the backend that computes a call on a platform, or on any with None."""
    name = forced.value or _from_environment() or _OF_PLATFORM.get(platform or "", "portable")
    backend = BACKENDS[name]
    return backend if backend.supports(op, avals, spec) else portable


def _from_environment() -> str | None:
    name = os.environ.get(_VARIABLE)
    if name and name not in BACKENDS:
        raise ValueError(f"{_VARIABLE} must be one of {', '.join(BACKENDS)}, got {name!r}")
    return name


def backend_of(platform: str = "cpu") -> str:
    """Tell how samples are computed on a platform.

    Args:
        platform: As JAX names it: "cpu", "gpu" ("cuda", "rocm") or "tpu".

    Returns:
        The backend's name, "portable" being plain `jax.numpy`; for "cpu" also the
        instruction set that its native kernels use here or, where they do not run, why.
        The environment variable JAXWARP_BACKEND, set to one of the names, makes all
        platforms use that one ("portable" turns the kernels off).

    Raises:
        ValueError: The platform is none of these, or JAXWARP_BACKEND names no backend.

    Example:
        >>> import jaxwarp
        >>> jaxwarp.backend_of("cuda")
        'gpu'
    """
    own = _OF_PLATFORM[_checks.choice("platform", platform, _OF_PLATFORM)]
    name = _from_environment() or own
    if name != "cpu":
        return name if _from_environment() is None else f"{name} ({_VARIABLE})"
    reason = cpu.why_not()
    return (
        f"cpu (native kernels, {cpu.instruction_sets()[0]})"
        if reason is None
        else f"portable ({reason})"
    )


# Lowering ---------------------------------------------------------------------


def _lower(
    ctx: mlir.LoweringRuleContext,
    *args: mlir.Value,
    platform: str | None = None,
    op: str,
    spec: SampleSpec,
    names: tuple[str, ...],
) -> Sequence[mlir.Value]:
    """Let a backend compute it: the platform's own, unless the program is for any platform."""
    avals = dict(zip(names, cast(Sequence[ShapedArray], ctx.avals_in), strict=True))
    exported = ctx.module_context.lowering_parameters.for_export
    devices = None if exported else devices_sharing(ctx)
    alone, cut = devices == 1, not exported and placement.can_be_cut(ctx, platform)
    spread = devices if platform == "tpu" and devices and not alone else 0
    backend = _choose(platform if alone or cut or spread else None, op, avals, spec)

    def compute(*args: jax.Array) -> jax.Array:
        operands = dict(zip(names, args, strict=True))
        if spread and backend is tpu:
            return tpu.spread(op, operands, spec, spread)
        return getattr(backend, op)(operands, spec)

    if cut and not alone and backend is not portable:
        compute = placement.cut(compute, op, avals, spec)
    return mlir.lower_fun(compute, multiple_results=False)(ctx, *args)


mlir.register_lowering(sample_p, _lower)
for _platform in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(sample_p, partial(_lower, platform=_platform), platform=_platform)
placement.wants_devices(sample_p)
