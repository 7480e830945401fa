"""Name a porting mistake: torch is made to make it, too, and then agrees with ours.

Each suspect is a convention in which libraries differ. While torch computes, one of its
functions is called otherwise (`torch.overrides.TorchFunctionMode` sees every call), everywhere
or in one place only. If all that differed agrees then, that is what ours does.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from jaxwarp.testing import _torch_side
from jaxwarp.testing._calls import bound
from jaxwarp.testing._conventions import SUSPECTS, Suspect
from jaxwarp.testing._measure import Tolerance
from jaxwarp.testing._question import Question, Side

_MOST_RUNS = 150
# How much closer than before is close enough: rounding is another after the change.
_SLACK = 16.0
_PACKAGES = (f"{Path(torch.__file__).parent}/", f"{Path(__file__).parent}/")


class _Call(NamedTuple):
    """The ``number``-th call of a function of torch's, and where it came from."""

    function: Any
    number: int
    place: str
    arguments: dict[str, Any]


class Calls(TorchFunctionMode):
    """Take down the calls that a suspect could change."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._watched = {f for suspect in SUSPECTS for f in suspect.functions}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self._watched:
            number = sum(call.function is func for call in self.calls)
            arguments = bound(func, args, kwargs or {})
            self.calls.append(_Call(func, number, _place(), arguments))
        return _remember_map(func(*args, **(kwargs or {})), args)


class _Changed(TorchFunctionMode):
    """Make the calls of a suspect's functions, or one of them, in the other way."""

    def __init__(self, accused: Sequence["_Accused"]) -> None:
        super().__init__()
        self._accused = accused
        self._counts: dict[Any, int] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        number = self._counts.get(func, 0)
        self._counts[func] = number + 1
        for suspect, call in self._accused:
            here = call is None or (call.function, call.number) == (func, number)
            if func in suspect.functions and here:
                arguments = bound(func, args, kwargs or {})
                if suspect.applies(arguments):
                    return _remember_map(suspect.call(func, arguments), args)
        return _remember_map(func(*args, **(kwargs or {})), args)


class _Accused(NamedTuple):
    """A suspect, in one call or in all (None)."""

    suspect: Suspect
    call: _Call | None


def _remember_map(result: Any, args: Sequence[Any]) -> Any:
    """Let a flattened tensor remember the (C, *spatial) that it was flattened from."""
    x = args[0] if args else None
    if not isinstance(x, torch.Tensor) or not isinstance(result, torch.Tensor):
        return result
    if result.ndim == 2 and x.ndim > 2 and len(result) == len(x):
        result.flattened_from = tuple(x.shape[1:])  # type: ignore[attr-defined]
    elif result.shape == x.shape and hasattr(x, "flattened_from"):
        result.flattened_from = x.flattened_from  # type: ignore[attr-defined]
    return result


def _place() -> str:
    """Say which layer is at work, or which line of the user's."""
    frame = sys._getframe(2)
    line = ""
    while frame is not None:
        name = getattr(frame.f_locals.get("self"), "_parity_name", None)
        if name:
            return name
        file = frame.f_code.co_filename
        if not line and not file.startswith(_PACKAGES):
            line = f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return line


# Trying -----------------------------------------------------------------------


def suspects_of(
    theirs: Side, question: Question, judged: Any, complaints: Mapping[str, str]
) -> Iterator[str]:
    """Yield the change to torch that makes it agree with ours, if there is one."""
    calls = Calls()
    _torch_side.answer(theirs, question, lambda: calls)
    for accused in itertools.islice(_accusations(calls.calls), _MOST_RUNS):
        try:
            answer = _torch_side.answer(theirs, question, lambda a=accused: _Changed(a))
        except (RuntimeError, ValueError, TypeError):
            continue  # a shape that the other convention does not fit
        if _agrees(judged, answer, complaints):
            yield "likely: " + " and ".join(_said(a, calls.calls) for a in accused)
            return


def _accusations(calls: Sequence[_Call]) -> Iterator[tuple[_Accused, ...]]:
    """Yield every suspect everywhere, then in one place each, then two together."""
    possible = {
        suspect: [
            c for c in calls if c.function in suspect.functions and suspect.applies(c.arguments)
        ]
        for suspect in SUSPECTS
    }
    everywhere = [_Accused(suspect, None) for suspect, found in possible.items() if found]
    yield from ((a,) for a in everywhere)
    for suspect, found in possible.items():
        if len(found) > 1:
            yield from ((_Accused(suspect, call),) for call in found)
    yield from itertools.combinations(everywhere, 2)


def _agrees(judged: Any, answer: Mapping[str, np.ndarray], complaints: Mapping[str, str]) -> bool:
    for name, other in judged.pairs():
        theirs, allowed = answer.get(other), judged.allowed[other]
        slack = Tolerance(allowed.tolerance.allowed * _SLACK, allowed.tolerance.scale)
        if theirs is None or allowed._replace(tolerance=slack).complaint(judged.ours[name], theirs):
            return False
    return bool(complaints)


def _said(accused: _Accused, calls: Sequence[_Call]) -> str:
    suspect, call = accused
    mine = [c for c in calls if c.function in suspect.functions and suspect.applies(c.arguments)]
    first = call or mine[0]
    places = [first.place] if call else list(dict.fromkeys(c.place for c in mine))
    said = suspect.said(first.arguments).replace("{name:", f"{{{first.place!r}:")
    return f"{', '.join(p for p in places if p)}: {said}"
