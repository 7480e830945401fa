"""Say what a checkout lacks to be released under a tag: ``python .ci/check_release.py v1.2.3``.

The release workflow asks this before it builds anything. Needs nothing but Python.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lacks(root: Path, tag: str) -> Iterator[str]:
    """Yield what is missing, or not that version's."""
    source = (root / "jaxwarp" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"jaxwarp.__version__ is {version}: not a version to release"
    if tag != f"v{version}":
        yield f"jaxwarp.__version__ is {version}: its tag is v{version}, not {tag}"

    changelog = (root / "CHANGELOG.md").read_text()
    if not re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE
    ):
        yield f"CHANGELOG.md has no dated section [{version}]"
    if not re.search(
        rf"^\[{re.escape(version)}\]: https://.*{re.escape(tag)}$", changelog, re.MULTILINE
    ):
        yield f"CHANGELOG.md has no link [{version}] that ends in {tag}"

    results = root / "parity_tests" / "results"
    kept = results / "history" / f"{version}.json"
    if not kept.is_file() or json.loads(kept.read_text())["version"] != version:
        yield f"{kept.relative_to(root)} is not the benchmark of {version}"
    shown = json.loads((results / "benchmark-cpu.json").read_text())
    if shown["machine"].get("jaxwarp") != version:
        yield f"the benchmark that is shown is that of {shown['machine'].get('jaxwarp')}"


def main(tag: str) -> None:
    """Print what is lacking, and fail if anything is."""
    if found := list(lacks(ROOT, tag)):
        raise SystemExit("\n".join(found))
    print(f"ready to be released as {tag}")


if __name__ == "__main__":
    main(*sys.argv[1:])
