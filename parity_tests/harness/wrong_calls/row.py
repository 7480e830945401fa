"""A row of the table of errors: a call that must fail, and what its message must say."""

import dataclasses
import functools
import re
from collections.abc import Callable

import pytest

import jaxwarp
import jaxwarp.interop
import jaxwarp.nn


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A call that must fail, in words that name the argument, the rule and what came.

    Attributes:
        name: What is wrong, for the test's name.
        op: The public function, as a path below `jaxwarp`.
        arguments: What is given to ``call``.
        error: What is raised.
        says: Words that the message must have, each of them whole.
        options: Keywords that are given to ``call``.
        torch_too: Whether torch rejects the same.
        known: Whether it is a value that is wrong, which is known outside of a trace only.
        call: What is called, if not the function itself.
    """

    name: str
    op: str
    arguments: tuple[object, ...]
    error: type[Exception]
    says: tuple[str, ...]
    options: dict[str, object] = dataclasses.field(default_factory=dict)
    torch_too: bool = False
    known: bool = False
    call: Callable[..., object] | None = None

    def __str__(self) -> str:
        return f"{self.op}: {self.name}".replace(" ", "_")

    def run(self, *arguments: object, **options: object) -> object:
        """Make the call with these arguments instead of the row's own."""
        return (self.call or public(self.op))(*arguments, **options)


def public(op: str) -> Callable[..., object]:
    """Return the public function of that name."""
    return functools.reduce(getattr, op.split("."), jaxwarp)


def must_fail(row: Wrong, call: Callable[[], object]) -> None:
    """Check that a row's call fails as the row says."""
    with pytest.raises(row.error) as info:
        call()
    message = str(info.value)
    assert type(info.value) is row.error
    for word in row.says:
        assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message), (
            f"{word!r} is not in: {message}"
        )
