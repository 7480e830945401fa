"""Signatures say which shapes and dtypes go in and come out, and are true."""

import inspect
import subprocess
import sys

import jaxwarp
from parity_tests.harness import readme

PROGRAM = "parity_tests.harness.checked_types"


def test_signatures_are_true() -> None:
    """In a program of its own: where signatures are checked, our own errors come too late."""
    command = [sys.executable, "-m", PROGRAM]
    run = subprocess.run(command, cwd=readme.README.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_signature_with_arrays_is_checked() -> None:
    source = (readme.README.parent / PROGRAM.replace(".", "/")).with_suffix(".py").read_text()
    functions = [name for name in jaxwarp.__all__ if inspect.isfunction(getattr(jaxwarp, name))]
    assert [f for f in functions if f"jaxwarp.{f}(" not in source] == ["backend_of"]
