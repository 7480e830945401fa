"""Configuration of the whole suite; options and table are those of `jaxwarp.testing.plugin`."""

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import jax
import pytest
import torch

import jaxwarp
from jaxwarp.testing import plugin
from parity_tests.harness import compare, quickly, report

# Here the code that is compiled is the question. All else is compiled quickly.
_COMPILED_AS_USERS_DO = (
    "test_values",
    "test_gradients",
    "test_dtypes",
    "test_layouts",
    "test_workarounds",
)


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(2)
    if config.getoption("--jax-platform") == "cpu":
        quickly.from_now_on()


@pytest.fixture(autouse=True)
def optimised(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile as users do where that makes a difference."""
    with quickly.paused() if request.path.stem in _COMPILED_AS_USERS_DO else nullcontext():
        yield


def pytest_parity_facts() -> dict[str, str]:
    """Add to the header of the parity table."""
    platform = jax.devices()[0].platform
    sampler = jaxwarp.backend_of(platform)
    return {"verified against torch": compare.VERIFIED_TORCH, "sampler": sampler}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of a case follow each other: they share one compiled program."""
    files = ("test_values", "test_gradients", "test_transforms", "test_theorems")
    sharing = [item for item in items if item.path.stem in files]
    others = [item for item in items if item.path.stem not in files]
    items[:] = sorted(sharing, key=lambda item: item.name.partition("[")[2]) + others


# Linux allows a process 65530 maps; a compiled program and its parts may take 350, and XLA
# crashes where there is no other. Long before that they fill the memory, and the next ones take
# longer to compile: with 1500 at hand a third longer than with none.
_MAPS = Path("/proc/self/maps")
_MANY_MAPS = 10_000
_TESTS_BETWEEN = 10
_tests_run = itertools.count(1)


def pytest_runtest_teardown() -> None:
    """Forget the compiled programs before they are too many for one process."""
    look = next(_tests_run) % _TESTS_BETWEEN == 0 and _MAPS.exists()
    if look and _MAPS.read_bytes().count(b"\n") > _MANY_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="package", autouse=True)
def strict_float64() -> Iterator[None]:
    """Run every test here with float64 on, and let no dtype or rank be promoted silently.

    float64 is the main precision of parity; what runs in float32 says so. The doctests of
    jaxwarp itself run with JAX's defaults.
    """
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        yield


@pytest.fixture
def as_users_have_it() -> Iterator[None]:
    """Let dtypes and ranks be promoted, as in most projects and in Flax; one thread for torch.

    The networks of these tests are tiny: threads would only wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def parity(parity: plugin.Parity) -> report.Parity:
    """Compare with torch, and note the outcome for the parity table."""
    return report.Parity(parity)
