"""Compile quickly: most of the suite's time is spent in compiling, and most of that in optimising.

The same operations come out, in the same order; only the code that LLVM makes of them is plain. So
this is how tests are compiled, but for those whose subject is what compiled code computes: the
parity table above all. With JAXWARP_OPTIMISED=1 in the environment everything is compiled as users'
programs are, with 0 nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax

# Loops from LLVM's older emitters instead of MLIR's take half the time. Newer XLAs have only one.
_OLDER_EMITTERS = jax.__version_info__ < (0, 11)
_CONFIG = "jax_disable_most_optimizations"
_ALL_OR_NOTHING = os.environ.get("JAXWARP_OPTIMISED")


def options(optimised: bool) -> dict[str, int | bool] | None:
    """Return what `jax.jit` takes as ``compiler_options``, whatever the rest is compiled as.

    None, its default, where nothing is compiled quickly: on GPUs, say.
    """
    if not _is_wanted_here():
        return None
    optimised = optimised and _ALL_OR_NOTHING != "0"
    chosen: dict[str, int | bool] = {
        "xla_backend_optimization_level": 3 if optimised else 0,
        "xla_llvm_disable_expensive_passes": not optimised,
    }
    if _OLDER_EMITTERS:
        chosen["xla_cpu_use_fusion_emitters"] = optimised
        # Parts of the code, for threads. To split it costs a tenth of the work, and here every core
        # has a test of its own.
        chosen["xla_cpu_parallel_codegen_split_count"] = 32 if optimised else 1
    return chosen


def _is_wanted_here() -> bool:
    return _CONFIG.upper() in os.environ


def from_now_on() -> None:
    """Compile quickly in this process, before which XLA has compiled nothing, and its children."""
    if _ALL_OR_NOTHING == "1":
        return
    jax.config.update(_CONFIG, True)
    os.environ[_CONFIG.upper()] = "1"
    if _OLDER_EMITTERS:
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join([*flags, "--xla_cpu_use_fusion_emitters=false"])


@contextmanager
def paused() -> Iterator[None]:
    """Optimise within this block."""
    jax.config.update(_CONFIG, _is_wanted_here() and _ALL_OR_NOTHING == "0")
    yield
    jax.config.update(_CONFIG, _is_wanted_here())
