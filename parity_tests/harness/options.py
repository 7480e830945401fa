"""The suite's options: a plugin, which pyproject.toml names.

In conftest.py they would only be known where a path of the suite is on the command line.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the suite runs on, and where its table goes."""
    group = parser.getgroup("parity")
    group.addoption("--jax-platform", choices=("cpu", "gpu", "tpu"), default="cpu")
    group.addoption("--torch-device", choices=("cpu", "cuda"), default="cpu")
    group.addoption(
        "--parity-report", metavar="FILE", help="write the parity table to FILE.json and FILE.md"
    )
