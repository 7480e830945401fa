"""Collect these tests only where JAX has four devices, as in the process of `test_devices`."""

import jax


def pytest_ignore_collect() -> bool | None:
    return True if len(jax.devices()) < 4 else None
