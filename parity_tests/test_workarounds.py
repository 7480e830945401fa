"""Every workaround is still needed: without it, the fault it avoids is there.

When one of these tests fails, JAX has mended something: it then says in which version, with
`mended_in`. Once that is the oldest that is supported, delete the file in ``jaxwarp/_workarounds``
that the test names, and the test.
"""

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import torch

import jaxwarp
from jaxwarp._objects import windows
from jaxwarp._spline import kernel
from jaxwarp._workarounds.division import LEVELS
from parity_tests.harness import quickly
from parity_tests.harness.control_points import lattice, scattered, shaken

ROOT = Path(__file__).parents[1]


def mended_in(*version: int) -> bool:
    """Tell whether this JAX is one in which a fault is mended."""
    return jax.__version_info__ >= version


def test_every_workaround_has_a_test() -> None:
    files = {path.stem for path in (ROOT / "jaxwarp" / "_workarounds").glob("[a-z]*.py")}
    assert {name.removeprefix("test_") for name in globals() if name.startswith("test_")} > files


def test_division() -> None:
    divided = jax.jit(lambda x: x.astype(jnp.float32) / 255)(jnp.arange(256, dtype=jnp.uint8))
    assert (divided != LEVELS).any()


def test_dlpack() -> None:
    tensor = torch.zeros(100)
    array = jnp.from_dlpack(tensor, copy=True)
    tensor += 1
    assert array[0] == 1


def test_varying_axes() -> None:
    """JAX before 0.10.2, where types say so elsewhere, is supported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (floor,) = [d.removeprefix("jax>=") for d in project["dependencies"] if d.startswith("jax>=")]
    assert [int(n) for n in floor.split(".")] < [0, 10, 2]


def copies_of_the_image(height: int) -> int:
    """Count the copies of the whole image in the program of patch_affine's gradient on a CPU."""

    def total(img, theta):
        boxes, owner = jnp.zeros((5, 4), jnp.int32), jnp.zeros(5, jnp.int32)
        return jaxwarp.patch_affine(img, boxes, theta, owner, max_box=(8, 8)).sum()

    img, theta = jnp.ones((1, 1, height, 96), jnp.float32), jnp.ones((5, 6), jnp.float32)
    program = jax.jit(jax.grad(total, argnums=(0, 1))).lower(img, theta).compile().as_text()
    return len(re.findall(rf"f32\[1,1,{height},96\]\S* copy\(", program or ""))


def test_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = copies_of_the_image(64)
    monkeypatch.setattr(windows, "in_a_branch", lambda f, always: f())
    assert copies_of_the_image(72) > copies  # of another size: nothing was compiled before


@pytest.mark.parametrize(("rounding", "points"), [(kernel._ROUNDING, 26), (0, 25)])
def test_a_point_is_apart_from_itself_without_room_for_rounding(
    monkeypatch: pytest.MonkeyPatch, rounding: int, points: int
) -> None:
    """Not a file, but a distance that counts as none: see `kernel.kernel`.

    Each time with so many points that nothing was compiled before.
    """
    monkeypatch.setattr(kernel, "_ROUNDING", rounding)
    target = shaken(0.9 * lattice(3, 3), 0.02)[None, -points:]
    source, step = shaken(target), scattered(target.shape[1], 3)[None]

    def total(target):
        spline = jaxwarp.tps_fit(target, source, smoothing=0.1)
        return jnp.sum(jaxwarp.tps_apply(spline, target) ** 2)

    def along_step(x, step):
        return jax.jvp(total, (x,), (step,))[1]

    options = quickly.options(optimised=True)
    forward = jax.jit(along_step, compiler_options=options)(target, step)
    reverse = jax.jit(jax.grad(total), compiler_options=options)(target)
    off = abs(jnp.vdot(reverse, step) - forward) > 0.01 * abs(forward)
    assert off == (not rounding and not mended_in(0, 12))


SEVERAL_BATCHES = """
import jax, jax.numpy as jnp
from jaxwarp._spline import solve

for name in ("_factor", "_substitute", "_substitute_transposed"):
    setattr(solve, name, getattr(solve, name).fun)  # as they are without the workaround

import jaxwarp

def total(sources):
    grids = [jaxwarp.tps_grid(s[..., ::-1], s, (16, 1, 4, 4)) for s in sources]
    return sum(jnp.sum(g**2) for g in grids)

sources = jax.random.uniform(jax.random.key(0), (4, 16, 64, 2))
step = jax.jit(jax.value_and_grad(total)).lower(sources).compile()
print("compiled", flush=True)
for _ in range(1000):
    jax.block_until_ready(step(sources))
"""


def sleeps(pid: int) -> bool:
    """Tell whether every thread of a process waits for something."""
    states = [
        stat.read_text().rpartition(")")[2] for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return all(state.split()[0] == "S" for state in states)


def test_lapack() -> None:
    """Batches of LAPACK calls in flight at once stop jaxlib's threads for good.

    All of the program's threads sleep (Linux says so), and a hundred looks in a row see none
    of them awake.
    """
    command = [sys.executable, "-c", SEVERAL_BATCHES]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "compiled\n"
            asleep = 0
            while asleep < 100 and child.poll() is None:
                time.sleep(0.02)
                asleep = asleep + 1 if sleeps(child.pid) else 0
            assert (child.poll() is None) != mended_in(0, 12), "the program came to its end or not"
        finally:
            child.kill()
