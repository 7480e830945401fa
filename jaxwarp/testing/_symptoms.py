"""What our own program shows by itself: random numbers, a narrow dtype, a stopped gradient."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn

from jaxwarp.testing import _jax_side
from jaxwarp.testing._jax_side import Ours
from jaxwarp.testing._question import Question

RANDOM = "random"
_DRAWS = ("random_bits", "threefry2x32", "rng_uniform", "rng_bit_generator")
# Where JAX itself stops a gradient on purpose, as in softmax, or draws on behalf of its caller.
_LIBRARY = ("/nn/", "/numpy/", "/scipy/", "/ops/")
_PACKAGES = (f"{Path(str(jax.__file__)).parent}/", f"{Path(__file__).parents[1]}/")


def symptoms_of(ours: Ours, question: Question, complaints: Mapping[str, str]) -> dict[str, str]:
    """Return what our program does that may explain a difference, and where, by its kind."""
    question = ours.posed(question)
    wanted = _jax_side.asked(question)._replace(order=0, forward=False)
    run = _jax_side.program(ours.call, wanted)
    leaves, cotangents = jax.device_put((question.operands.leaves, dict(question.cotangents)))
    try:
        traced = jax.make_jaxpr(run)(leaves, cotangents, (ours.extras, ()))
    except jax.errors.ConcretizationTypeError:
        return {}  # it looks at its operands' values: there is no program to read
    widest = max((jnp.finfo(x.dtype).bits for x in question.operands.floats()), default=0)
    values_agree = not any(name.startswith("value") for name in complaints)
    found: dict[str, str] = {}
    for equation, place in _equations(traced.jaxpr):
        kind, text = _symptom(equation, place, widest)
        if kind != "gradient" or values_agree:
            found.setdefault(kind, text)
    if RANDOM in found:
        found.pop("dtype", None)  # random numbers are drawn in a dtype of their own
    return {kind: text for kind, text in found.items() if text}


def _symptom(equation: JaxprEqn, place: str, widest: int) -> tuple[str, str]:
    name, where = equation.primitive.name, f" at {place}" if place else ""
    if name in _DRAWS:
        return RANDOM, f"likely: ours draws random numbers{where}: is dropout left on?"
    if name == "stop_gradient" and where and not _internal(equation):
        return "gradient", f"likely: ours stops a gradient{where}: is it detached in torch, too?"
    for variable in equation.outvars:
        dtype = getattr(variable.aval, "dtype", None)
        narrow = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
        if narrow and jnp.finfo(dtype).bits < widest:
            return "dtype", f"likely: ours computes in {dtype} ({name}){where}"
    return "", ""


def _equations(jaxpr: Jaxpr, place: str = "") -> Iterator[tuple[JaxprEqn, str]]:
    """Yield all equations, inner ones with the place that calls them: they may be kept copies."""
    for equation in jaxpr.eqns:
        here = place or _place(equation)
        yield equation, here
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner, here)


def _frames(equation: JaxprEqn) -> list[Any]:
    traceback = getattr(equation.source_info, "traceback", None)
    return list(traceback.frames) if traceback is not None else []


def _user_frame(equation: JaxprEqn) -> int | None:
    files = [frame.file_name for frame in _frames(equation)]
    outside = (i for i, f in enumerate(files) if not f.startswith(_PACKAGES) and "/flax/" not in f)
    return next(outside, None)


def _place(equation: JaxprEqn) -> str:
    """Say where in the user's own code an equation comes from, or else in Flax."""
    frames, at = _frames(equation), _user_frame(equation)
    if at is None:
        at = next((i for i, f in enumerate(frames) if "/flax/" in f.file_name), None)
    if at is None:
        return ""
    frame = frames[at]
    return f"{Path(frame.file_name).name}:{frame.line_num}"


def _internal(equation: JaxprEqn) -> bool:
    """Tell whether a function of JAX's own library, and not the user, asked for it."""
    files = [frame.file_name for frame in _frames(equation)[: _user_frame(equation)]]
    return any(part in file for file in files for part in _LIBRARY)
