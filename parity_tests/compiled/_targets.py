"""Devices to compile for that need not be there: their descriptions and how to ask for them.

`prepare` must run before JAX makes its first backend. What the compilers' plugins accept here
is no stable interface of theirs: pin the versions of what relies on it.
"""

import os
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies


@dataclass(frozen=True)
class Target:
    """A kind of device, and what its compiler must be told of it."""

    platform: str
    description: str
    packages: tuple[str, ...]
    topology: str = ""
    config: str = ""

    def devices(self, count: int) -> list[Any]:
        """Return descriptions of ``count`` devices of one machine."""
        more: dict[str, object] = {}
        if self.config:
            more = {"target_config": self.config, "topology": f"1x1x{count}"}
        described = topologies.get_topology_desc(self.topology, self.platform, **more)
        return list(described.devices)[:count]


def _gpu(name: str, capability: tuple[int, int], **limits: int | float) -> Target:
    """Describe a GPU as XLA does, in protobuf's text form."""
    info = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "threads_per_core_limit": 2048,
        "fpus_per_core": 128,
        "block_dim_limit_x": 2147483647,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        **limits,
    }
    major, minor = capability
    lines = [f"{key}: {value}" for key, value in info.items()]
    lines.append(f"cuda_compute_capability {{ major: {major} minor: {minor} }}")
    config = "\n".join(
        (
            f"gpu_device_info {{ {' '.join(lines)} }}",
            'platform_name: "CUDA"',
            "dnn_version_info { major: 9 minor: 10 }",
            "runtime_version { major: 12 minor: 8 }",
            f'device_description_str: "{name}"',
        )
    )
    packages = ("jax-cuda12-plugin", "jax-cuda12-pjrt")
    return Target("cuda", f"{name}, compute capability {major}.{minor}", packages, config=config)


def _tpu(topology: str) -> Target:
    return Target("tpu", f"TPU {topology}", ("libtpu",), topology=topology)


TARGETS = {
    "h100": _gpu(
        "NVIDIA H100 80GB HBM3",
        (9, 0),
        core_count=132,
        shared_memory_per_core=233472,
        shared_memory_per_block_optin=232448,
        memory_bandwidth=3352320000000,
        l2_cache_size=52428800,
        clock_rate_ghz=1.98,
        device_memory_size=84942979072,
    ),
    "a100": _gpu(
        "NVIDIA A100-SXM4-80GB",
        (8, 0),
        core_count=108,
        fpus_per_core=64,
        shared_memory_per_core=167936,
        shared_memory_per_block_optin=166912,
        memory_bandwidth=2039000000000,
        l2_cache_size=41943040,
        clock_rate_ghz=1.41,
        device_memory_size=85024112640,
    ),
    "v4": _tpu("v4:2x2x1"),
    "v5e": _tpu("v5e:2x2"),
    "v6e": _tpu("v6e:2x2"),
}


def prepare(target: Target, dump: str = "") -> None:
    """Set the environment that a compiler without its device needs.

    A TPU's compiler leaves what it compiles in the folder ``dump``, if there is one.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if target.platform == "tpu":
        os.environ |= {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_ACCELERATOR_TYPE": "v5litepod-4",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_WORKER_ID": "0",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
        if dump:
            # Of one of its many passes: to write all of them takes longer than to compile.
            flags = ("to=" + dump, "llo_text=true", "llo_pass_label_regex=final_bundles")
            os.environ["LIBTPU_INIT_ARGS"] = " ".join(f"--xla_jf_dump_{flag}" for flag in flags)
    jax.config.update("jax_platforms", "cpu")
