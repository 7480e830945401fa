"""What an import takes along: no Flax, torch or type checker before they are asked for.

All in one fresh process, from the lightest to the heaviest: what a module may not import, those
before it may not either.
"""

import json
import subprocess
import sys

import pytest

STEPS = (
    "import jaxwarp",
    "assert {'nn', 'interop'} <= set(dir(jaxwarp))",
    "jaxwarp.interop.from_image",
    "import jaxwarp.testing, jaxwarp.testing.plugin",
    "jaxwarp.nn.TPSGrid",
)
TELLING = """
import json, sys
for step in json.loads(sys.argv[1]):
    exec(step)
    print(json.dumps(sorted(sys.modules)))
try:
    jaxwarp.nothing
except AttributeError as error:
    print(json.dumps(str(error)))
"""
OURS = ("jaxwarp.interop", "jaxwarp.testing.plugin", "jaxwarp.nn")
OTHERS = ("flax", "torch", "beartype")


@pytest.fixture(scope="module")
def told() -> list:
    """Return the modules that are loaded after each step, and what a missing name says."""
    command = [sys.executable, "-c", TELLING, json.dumps(STEPS)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_imports_are_light(told):
    """Modules and interop are there when asked for and not before, and only modules need Flax."""
    loaded = [{*OURS, *OTHERS} & set(modules) for modules in told[:-1]]
    assert loaded == [
        set(),
        set(),
        {"jaxwarp.interop"},
        {"jaxwarp.interop", "jaxwarp.testing.plugin"},
        {*OURS, "flax"},
    ]


def test_what_is_not_there_is_named(told):
    assert told[-1] == "module 'jaxwarp' has no attribute 'nothing'"
