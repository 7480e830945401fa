"""Compile for a GPU or TPU that need not be there, and read what comes out.

Nothing is run: what is printed are facts about programs, not a measured speed.
"""

import argparse
import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from parity_tests.compiled import _ceilings, _report
from parity_tests.compiled._compile import compile_rows
from parity_tests.compiled._targets import TARGETS, Target


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m parity_tests.compiled", description=__doc__)
    add = parser.add_argument
    add("--for", dest="target", choices=TARGETS, required=True, help="the device to compile for")
    add("--only", default="", metavar="REGEX", help="the rows whose name matches, only")
    add("--json", type=Path, metavar="FILE", help="write the results")
    add("--md", type=Path, metavar="FILE", help="write the tables")
    add("--check", action="store_true", help="fail where a row is above its ceiling")
    return parser.parse_args(arguments)


def versions(target: Target) -> dict[str, str]:
    """Name the versions of what compiles, and when it did."""
    names = ("jax", "jaxlib", *target.packages)
    found = {name: importlib.metadata.version(name) for name in names}
    return found | {"python": platform.python_version(), "on": datetime.date.today().isoformat()}


def main(arguments: Sequence[str]) -> int:
    """Compile, print and write; return 1 if a ceiling is exceeded that was to be checked."""
    options = parse(arguments)
    target = TARGETS[options.target]
    rows = compile_rows(options.target, options.only)
    described = {"name": options.target, "platform": target.platform, "device": target.description}
    results = {"target": described, "versions": versions(target), "rows": rows}
    print(_report.markdown(results))
    if options.json:
        options.json.write_text(_report.to_json(results))
    if options.md:
        options.md.write_text(_report.markdown(results))
    wrong = list(_ceilings.exceeded(options.target, rows)) if options.check else []
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
