"""What the benchmark runs on: choosing it, describing it, and its copy bandwidth."""

import datetime
import importlib.metadata
import os
import platform
import re
import statistics
import time
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import torch

import jaxwarp
from parity_tests.harness import torch_side


def choose(jax_platform: str, torch_device: str) -> None:
    """Use one kind of device in each library; raise if JAX does not find its own."""
    if jax_platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    else:
        # Two libraries share the accelerator's memory.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if jax.default_backend() != jax_platform:
        raise SystemExit(f"--jax-platform {jax_platform}: JAX finds {jax.devices()}")
    torch.set_num_threads(cores())
    torch_side.use_device(torch_device)


def cores() -> int:
    """How many cores this process may use; XLA and torch both use all of them."""
    count = getattr(os, "sched_getaffinity", None)
    return len(count(0)) if count else os.cpu_count() or 1


def describe() -> dict[str, str]:
    """Name the machine, its load, and the versions."""
    device = jax.devices()[0]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    known = {"known problem": _SLOW_SCATTER} if has_slow_scatter() else {}
    return {
        "date": datetime.date.today().isoformat(),
        "CPU": _cpu_model(),
        "threads": f"{cores()} for XLA, {torch.get_num_threads()} for torch",
        "load before": f"{load():.1f}",
        "JAX device": f"{device.platform} ({device.device_kind})",
        "sampler": jaxwarp.backend_of(device.platform),
        "torch device": torch_side.device_name(),
        "jaxwarp": jaxwarp.__version__,
        **versions,
        "torch": torch.__version__,
        "python": platform.python_version(),
        **known,
    }


_SLOW_SCATTER = "float32 scatters on CUDA are slow: github.com/jax-ml/jax/issues/38806"


def has_slow_scatter(platform: str | None = None, jaxlib: str = "") -> bool:
    """Whether JAX scatters float32 by compare-and-swap: slow where many samples share a pixel."""
    platform = platform or jax.devices()[0].platform
    version = jaxlib or importlib.metadata.version("jaxlib")
    release = tuple(int(x) for x in re.findall(r"\d+", version)[:3])
    return platform in ("gpu", "cuda") and (0, 10, 2) <= release <= (0, 11, 0)


def load() -> float:
    """Return how many processes wanted a core in the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(module: str) -> bool:
    """Whether a module can be imported."""
    return find_spec(module) is not None


def copy_bandwidth() -> float:
    """Measure how many bytes per second the JAX device reads and writes when it copies."""
    x = jnp.zeros(2**26, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    times = []
    for _ in range(12):
        start = time.perf_counter()
        jax.block_until_ready(copy(x))
        times.append(time.perf_counter() - start)
    return 2 * x.nbytes / statistics.median(times[2:])
