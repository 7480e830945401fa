"""Time several ways of computing the same thing, in turn, in one process."""

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax
import torch

# A burst of calls to one contender goes on for this long, then the next one has its turn.
_BURST_SECONDS = 0.03
# Threads of torch (OpenMP's) that wait for work keep a core busy for 2 to 8 ms: without a pause
# they take it from what comes next, for most of a short burst and in some processes only.
_PAUSE_SECONDS = 0.01


@dataclass
class Row:
    """One line of the table: several contenders that compute the same thing.

    Attributes:
        group: The table that the row belongs to.
        name: What is computed.
        contenders: Calls without arguments; "torch" is what the others are compared with.
        note: What a reader must know about the row.
        temp_bytes: Memory that jaxwarp's program needs beside its operands and results. A
            `Program` knows its own.
        peers: Contenders that are measured only when asked for.
        values: How many numbers the result has, for the time of one.
        bytes_moved: What reading every operand once and writing every result once moves.
        quick: Whether ``--quick`` measures this row, too.
    """

    group: str
    name: str
    contenders: Mapping[str, Callable[[], object]]
    note: str = ""
    temp_bytes: int | None = None
    peers: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    values: int | None = None
    bytes_moved: int | None = None
    quick: bool = True


class Program:
    """A jitted function with its arguments; compiled when first called."""

    def __init__(self, f: Callable[..., object], *args: object) -> None:
        self._jitted, self._args = jax.jit(f), args

    def __call__(self) -> object:
        return self._jitted(*self._args)

    @functools.cached_property
    def temp_bytes(self) -> int:
        """What the compiled program allocates beside its operands and results."""
        stats = self._jitted.lower(*self._args).compile().memory_analysis()
        return 0 if stats is None else stats.temp_size_in_bytes


@dataclass
class Measurement:
    """A row's outcome: each contender's median and fastest time, calls, and memory.

    `burst_ms` has the median of every burst; the contenders' bursts of one turn are neighbours in
    time.
    """

    row: Row
    ms: dict[str, float]
    fastest_ms: dict[str, float]
    burst_ms: dict[str, list[float]]
    calls: dict[str, int]
    temp_bytes: dict[str, int]

    @property
    def ratios(self) -> dict[str, float]:
        """The medians in units of torch's, where the row has one."""
        unit = self.ms.get("torch")
        return {} if unit is None else {k: v / unit for k, v in self.ms.items() if k != "torch"}

    @property
    def ratio_quartiles(self) -> dict[str, list[float]]:
        """Between which two ratios to torch half of the turns were."""
        turns = {name: self._ratios_of_turns(name) for name in self.ratios}
        return {name: _quartiles(ratios) for name, ratios in turns.items()}

    def _ratios_of_turns(self, name: str) -> list[float]:
        pairs = zip(self.burst_ms[name], self.burst_ms["torch"], strict=True)
        return [ours / torch for ours, torch in pairs]


def _quartiles(x: list[float]) -> list[float]:
    if len(x) == 1:
        return x * 2
    low, _, high = statistics.quantiles(x, n=4, method="inclusive")
    return [low, high]


def measure(
    row: Row, seconds: float, *, rounds: int = 3, peers: bool = False, pipelined: bool = False
) -> Measurement:
    """Time a row's contenders in turn for about ``seconds`` in all.

    Each contender runs in bursts, after a pause in which the other library's threads fall asleep.
    A burst's first call is not counted: it finds the caches as the others left them.

    Args:
        row: What to measure.
        seconds: How long to go on.
        rounds: How many turns each contender has at least.
        peers: Whether to measure the row's peers, too.
        pipelined: Wait for the result of a burst, not of every call, as is fair on an
            accelerator, where the next call is prepared while the last one computes.
    """
    contenders = {**row.contenders, **(row.peers if peers else {})}
    estimates = {name: _second_call(call) for name, call in contenders.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    start = time.perf_counter()
    for turn in itertools.count():
        if turn >= rounds and time.perf_counter() - start > seconds:
            break
        for name, call in contenders.items():
            count = max(1, min(50, round(_BURST_SECONDS / estimates[name])))
            time.sleep(_PAUSE_SECONDS)
            if count > 1:
                _timed(call, 1)
            if pipelined:
                times[name].append([_timed(call, count) / count])
            else:
                times[name].append([_timed(call, 1) for _ in range(count)])
    return _measurement(row, times, _temp_bytes(row, contenders))


def _measurement(
    row: Row, bursts: Mapping[str, list[list[float]]], temp_bytes: dict[str, int]
) -> Measurement:
    times = {name: list(itertools.chain(*lists)) for name, lists in bursts.items()}
    return Measurement(
        row,
        ms={name: 1e3 * statistics.median(t) for name, t in times.items()},
        fastest_ms={name: 1e3 * min(t) for name, t in times.items()},
        burst_ms={name: [1e3 * statistics.median(t) for t in b] for name, b in bursts.items()},
        calls={name: len(t) for name, t in times.items()},
        temp_bytes=temp_bytes,
    )


def _second_call(call: Callable[[], object]) -> float:
    """Compile in a first call, and return how long a second one takes."""
    _timed(call, 1)
    return _timed(call, 1)


def _timed(call: Callable[[], object], count: int) -> float:
    start, result = time.perf_counter(), None
    for _ in range(count):
        result = call()
    _wait(result)
    return time.perf_counter() - start


def _wait(result: object) -> None:
    jax.block_until_ready(result)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _temp_bytes(row: Row, contenders: Mapping[str, Callable[[], object]]) -> dict[str, int]:
    known = {} if row.temp_bytes is None else {"jaxwarp": row.temp_bytes}
    return known | {name: c.temp_bytes for name, c in contenders.items() if isinstance(c, Program)}
