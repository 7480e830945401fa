"""How arrays are laid out in torch and here, in letters: "NCHW->NHWC"."""

from collections.abc import Sequence

import jax

Layout = tuple[int, ...] | None


def layouts(name: str, given: Sequence[str | None] | str | None, count: int | None):
    """Return the axes of torch's arrays in ours, for each array; None for the same."""
    if given is None:
        return None
    texts = (given,) if isinstance(given, str) else tuple(given)
    if count is not None and len(texts) != count:
        raise ValueError(f"{name} must have one entry for each of {count} inputs, got {given!r}")
    return tuple(None if text is None else _axes(name, text) for text in texts)


def _axes(name: str, text: str) -> tuple[int, ...]:
    theirs, arrow, ours = text.partition("->")
    if not arrow or sorted(theirs) != sorted(ours) or len(set(theirs)) != len(theirs):
        raise ValueError(f'{name} must look like "NCHW->NHWC", got {text!r}')
    return tuple(theirs.index(letter) for letter in ours)


def to_ours(x: jax.Array, axes: Layout) -> jax.Array:
    """Lay out an array of torch's as ours is."""
    if axes is None:
        return x
    _refuse_rank(x, axes)
    return x.transpose(axes)


def to_theirs(x: jax.Array, axes: Layout) -> jax.Array:
    """Lay out an array of ours as torch's is."""
    if axes is None:
        return x
    _refuse_rank(x, axes)
    return x.transpose([axes.index(i) for i in range(len(axes))])


def _refuse_rank(x: jax.Array, axes: tuple[int, ...]) -> None:
    if x.ndim != len(axes):
        raise ValueError(f"a layout of {len(axes)} letters was given for an array {x.shape}")
