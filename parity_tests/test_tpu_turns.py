"""How the form for TPUs shares a batch out: among turns of a loop, and among devices."""

import jax
import jax.numpy as jnp
import pytest

from jaxwarp._sampler.backends import portable, tpu
from parity_tests.test_backends import OPERATIONS, Case, assert_same, operands


@pytest.mark.parametrize(("turn", "turns"), [(1, 6), (700, 3), (2**14, 1)])
@pytest.mark.parametrize("op", OPERATIONS)
def test_images_take_turns(op, turn, turns, monkeypatch):
    """One at a time, or as many small ones as one turn of the loop is worth; on devices, too."""
    monkeypatch.setattr(tpu, "_TURN", turn)
    case = Case(op, "bilinear", 2, ("wrap", "border"), False, channels=2)
    given = {name: jnp.concatenate([x, x[::-1]]) for name, x in operands(case).items()}

    @jax.jit
    def program(given):
        results = {"portable": getattr(portable, op)(given, case.spec)}
        results["one device"] = getattr(tpu, op)(given, case.spec)
        for devices in (4, 6):
            results[f"{devices} devices"] = tpu.spread(op, given, case.spec, devices)
        return results

    assert_same(op, case.spec, given, program(given))
    jaxpr = jax.make_jaxpr(lambda given: getattr(tpu, op)(given, case.spec))(given)
    assert f"length={turns}\n" in str(jaxpr)
