"""A pytest plugin for parity with torch: ``python -m pytest -p jaxwarp.testing.plugin``.

It says what JAX and torch compute on, has the `parity` fixture, and ends the run in a table of
all that was compared; with pytest-xdist, too. A project's conftest.py may add facts to the
table's header::

    def pytest_parity_facts():
        return {"weights": "resnet50, 2024-05-01"}
"""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import pytest

from jaxwarp.testing import _devices
from jaxwarp.testing._table import Parity, Table

__all__ = ["Parity", "Table", "parity"]


class _Hooks:
    """What a project's conftest.py may implement."""

    @staticmethod
    @pytest.hookspec
    def pytest_parity_facts() -> dict[str, str]:
        """Return facts for the header of the parity table, by name."""
        return {}


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare `pytest_parity_facts`."""
    pluginmanager.add_hookspecs(_Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what both sides run on, and where the table goes."""
    group = parser.getgroup("parity")
    group.addoption(
        "--jax-platform",
        choices=("cpu", "gpu", "tpu"),
        help="what JAX computes on; an error where there is none. By default what JAX finds",
    )
    group.addoption("--torch-device", choices=("cpu", "cuda"), default="cpu")
    group.addoption(
        "--parity-report", metavar="FILE", help="write the parity table to FILE.json and FILE.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the devices, and start the table."""
    _use_platform(config.getoption("--jax-platform"))
    device = str(config.getoption("--torch-device"))
    if device != "cpu":
        _devices.use_torch_device(device)
    table = Table(config.getoption("--parity-report"), lambda: _facts(config))
    config.pluginmanager.register(table, "parity-table")


def _use_platform(name: str | None) -> None:
    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif name is not None and jax.default_backend() != name:
        raise pytest.UsageError(f"--jax-platform {name}: JAX finds {jax.devices()}")


def _facts(config: pytest.Config) -> dict[str, str]:
    """Return what runs, and on what."""
    device = jax.devices()[0]
    facts = {
        "jaxwarp": _version("jaxwarp"),
        "jax": f"{jax.__version__} on {device.platform} ({device.device_kind})",
        "torch": f"{_version('torch')} on {_devices.torch_device_name()}",
    }
    for more in reversed(config.hook.pytest_parity_facts()):
        facts |= more
    return facts | {"numpy": _version("numpy"), "python": platform.python_version()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "source"


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Any:
    """Take notes of comparisons for the parity table."""
    return Parity(request.node)
