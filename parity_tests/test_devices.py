"""More devices than this process has: four in one child, then two processes that talk."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from parity_tests.harness import distributed_step

ROOT = Path(__file__).parents[1]
PROCESSES = 2
TIMEOUT = 900  # seconds; a minute on two quiet cores


@contextmanager
def started(*commands: list[str], devices: int) -> Iterator[list[subprocess.Popen]]:
    """Start Python processes with some CPU devices each; none of them outlives the block."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTEST_ADDOPTS": "",
    }
    children = []
    try:
        for command in commands:
            children.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


def succeeds(child: subprocess.Popen) -> str:
    """Wait for a process; return what it said, or fail with it."""
    try:
        output, _ = child.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        pytest.fail(f"still running after {TIMEOUT} s:\n{child.communicate()[0]}")
    if child.returncode:
        pytest.fail(f"exit status {child.returncode}:\n{output}")
    return output


def test_four_devices():
    """Run every test of the folder `four_devices` in a process that has four."""
    command = ["pytest", "-q", "-p", "no:cacheprovider", "parity_tests/four_devices"]
    with started(command, devices=4) as (child,):
        assert " passed" in succeeds(child)


def test_two_processes_train_like_one(tmp_path):
    files = [tmp_path / f"{process}.json" for process in range(PROCESSES)]
    port = str(free_port())
    commands = [
        ["parity_tests.harness.distributed_step", str(process), str(PROCESSES), port, str(file)]
        for process, file in enumerate(files)
    ]
    with started(*commands, devices=2) as children:
        for child in children:
            succeeds(child)
    theta, losses = distributed_step.train(*distributed_step.batch(), distributed_step.start())
    assert losses[-1] < losses[0]
    for file in files:
        outcome = json.loads(file.read_text())
        assert (outcome["devices"], outcome["local devices"], outcome["images here"]) == (4, 2, 4)
        np.testing.assert_allclose(outcome["theta"], theta, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(outcome["losses"], losses, rtol=1e-12)
        assert outcome["collectives of a step"]  # the shared matrix's gradient is a sum
        assert outcome["collectives of sampling"] == []


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
