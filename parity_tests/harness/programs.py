"""The programs that XLA compiles."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax.monitoring


@contextmanager
def compiled() -> Iterator[list[float]]:
    """Yield the seconds that each program took that is compiled within this block."""
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if "backend_compile" in event:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
