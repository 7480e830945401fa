"""The guide keeps its word: both columns of every example are run and compared.

Each section of the pages in ``examples/guide`` is one test, after the opening of ``index.md``.
Code outside a table runs on both sides, code in a table's left column on torch's (or a
neighbour's) side, in its right column on ours; after every pair each name that both sides define
must mean the same.
"""

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
OPENING = EXAMPLES / "guide" / "index.md"
PAGES = sorted(OPENING.parent.glob("*.md"))
BLOCK = r"```python\n(.*?)```"
# One table with a column for each side, or code that stands alone.
STEP = re.compile(
    rf"<th>([^<]+)</th><th>[^<]+</th></tr><tr><td>\n\n{BLOCK}\n\n</td><td>\n\n{BLOCK}\n\n</td>"
    rf"|{BLOCK}",
    re.DOTALL,
)
# The title of a page or a section, or a block of code, whose comments are no titles.
HEADING = re.compile(r"^```.*?^```$|^##? ([^\n]*)$", re.DOTALL | re.MULTILINE)
# What a column's heading needs installed, beyond the torch and jax of every column.
NEEDS = {
    "MONAI": "monai",
    "OpenCV": "cv2",
    "dm_pix": "dm_pix",
    "keras": "keras",
    "kornia": "kornia",
    "scipy": "scipy",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "torchvision": "torchvision",
    "jax.scipy": "jax",
}
ALWAYS_INSTALLED = {"OpenCV", "dm_pix", "jax.scipy", "keras", "kornia", "scipy", "torch"}
WIDEST = 64
ULPS = 64


def texts(page: Path) -> list[tuple[str, str]]:
    """Return each title of a page with the text that follows it, the page's own title first."""
    text = page.read_text()
    headings = [found for found in HEADING.finditer(text) if found[1]]
    ends = [*(found.start() for found in headings[1:]), len(text)]
    return [(h[1], text[h.end() : end]) for h, end in zip(headings, ends, strict=True)]


def sections() -> dict[str, list[tuple[str, ...]]]:
    """Return the steps of each section: (heading, left, right, "") or ("", "", "", both)."""
    opening = STEP.findall(OPENING.read_text())
    found = [section for page in PAGES if page != OPENING for section in texts(page)]
    return {title: opening + steps for title, text in found if (steps := STEP.findall(text))}


def libraries(steps) -> set[str]:
    return {heading for heading, *_ in steps if heading}


SECTIONS = sections()
RUNNABLE = {
    title: steps
    for title, steps in SECTIONS.items()
    if all(importlib.util.find_spec(NEEDS[name]) for name in libraries(steps))
}


# What counts as the same -----------------------------------------------------

ARRAYS = (torch.Tensor, jax.Array, np.ndarray, np.generic)


def is_value(x: Any) -> bool:
    """Tell whether a name's meaning is a value, and not a function, module or layer."""
    if isinstance(x, tuple):
        return all(map(is_value, x))
    return isinstance(x, (*ARRAYS, bool, int, float, str))


def assert_same(name: str, theirs: Any, ours: Any) -> None:
    if isinstance(theirs, ARRAYS) and isinstance(ours, ARRAYS):
        dtype = str(ours.dtype)
        assert str(theirs.dtype).removeprefix("torch.") == dtype, name
        a, b = as_numpy(theirs), as_numpy(ours)
        assert a.shape == b.shape, name
        eps = float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 0.0
        allowed = ULPS * eps * max(1.0, np.abs(a).max(initial=0))
        np.testing.assert_allclose(b, a, rtol=0, atol=allowed, err_msg=name)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=ULPS * float(np.finfo(np.float32).eps)), name
    else:
        assert ours == theirs, name


def as_numpy(x: Any) -> np.ndarray:
    """Return any array in NumPy; bfloat16, which NumPy lacks, as float32."""
    if isinstance(x, torch.Tensor):
        x = x.detach()
        return x.float().numpy() if x.dtype == torch.bfloat16 else x.numpy()
    return np.asarray(x, np.float32 if x.dtype == jnp.bfloat16 else None)


# The tests -------------------------------------------------------------------


def assigned(code: str) -> set[str]:
    """Return the names that a snippet gives a meaning at its top level."""
    return {
        node.id
        for statement in ast.parse(code).body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


@pytest.mark.parametrize("title", RUNNABLE)
@jax.enable_x64(False)  # JAX as a reader finds it
@jax.numpy_rank_promotion("allow")
@jax.numpy_dtype_promotion("standard")
def test_both_columns_agree(title, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    theirs, ours = {"__name__": "theirs"}, {"__name__": "ours"}
    for _, left, right, both in RUNNABLE[title]:
        exec(compile(left or both, f"{title}, left", "exec"), theirs)
        exec(compile(right or both, f"{title}, right", "exec"), ours)
        if both:
            continue
        fresh = {n for n in assigned(left) & assigned(right) if is_value(theirs[n])}
        assert fresh, f"nothing to compare:\n{left}\n{right}"
        for name in sorted(theirs.keys() & ours.keys() - {"__name__", "__builtins__"}):
            if is_value(theirs[name]) and is_value(ours[name]):
                assert_same(f"{title}: {name}", theirs[name], ours[name])


def test_sections_are_run_where_their_library_is():
    for title in SECTIONS.keys() - RUNNABLE.keys():
        assert not libraries(SECTIONS[title]) <= ALWAYS_INSTALLED, title


def test_every_snippet_is_found():
    """A table that the pattern above does not match would silently not be run."""
    whole = "".join(page.read_text() for page in PAGES)
    opening = STEP.findall(OPENING.read_text())
    steps = opening + [step for steps in SECTIONS.values() for step in steps[len(opening) :]]
    found = sum(1 if both else 2 for *_, both in steps)
    assert found == whole.count("```python\n")
    assert sum(1 for *_, both in steps if not both) == whole.count("<table>")


def test_no_page_is_forgotten():
    """A page elsewhere would not be run, and one that the first does not name not be found."""
    with_code = {page for page in EXAMPLES.rglob("*.md") if "```python" in page.read_text()}
    assert with_code <= set(PAGES)
    wanted = []
    for page in PAGES:
        if page != OPENING:
            title, *titles = (title for title, _ in texts(page))
            wanted.append((title, page.name))
            wanted += [(title, f"{page.name}#{anchor(title)}") for title in titles]
    found = re.findall(r"\[([^\]]+)\]\(([\w-]+\.md[^)]*)\)", OPENING.read_text())
    assert sorted(found) == sorted(wanted)
    assert len({title for title, _ in found}) == len(found), "two sections have one title"


def anchor(title: str) -> str:
    """Return what GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_columns_fit_side_by_side():
    code = "\n".join(part for steps in SECTIONS.values() for step in steps for part in step[1:3])
    assert [line for line in code.splitlines() if len(line) > WIDEST] == []
