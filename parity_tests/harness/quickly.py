"""Compile quickly: most of the suite's time is spent in compiling, and most of that in optimising.

The same operations come out, in the same order; only the code that LLVM makes of them is plain. So
this is how tests are compiled, but for those whose subject is what compiled code computes: the
parity table above all. With JAXWARP_OPTIMISED=1 in the environment everything is compiled as users'
programs are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

# Loops from LLVM's older emitters instead of MLIR's take half the time. Newer XLAs have only one.
_OLDER_EMITTERS = jax.__version_info__ < (0, 11)
_CONFIG = "jax_disable_most_optimizations"

# For programs that are compiled as everyone's are, by `jax.jit(..., compiler_options=OPTIMISED)`.
OPTIMISED: dict[str, int | bool] = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}
if _OLDER_EMITTERS:
    OPTIMISED["xla_cpu_use_fusion_emitters"] = True


def from_now_on() -> None:
    """Compile quickly in this process, before which XLA has compiled nothing, and its children."""
    if os.environ.get("JAXWARP_OPTIMISED"):
        return
    jax.config.update(_CONFIG, True)
    os.environ[_CONFIG.upper()] = "1"
    if _OLDER_EMITTERS:
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join([*flags, "--xla_cpu_use_fusion_emitters=false"])


@contextmanager
def paused() -> Iterator[None]:
    """Optimise within this block."""
    quick = _CONFIG.upper() in os.environ
    jax.config.update(_CONFIG, False)
    yield
    jax.config.update(_CONFIG, quick)
