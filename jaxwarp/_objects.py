"""Objects in images: which image each belongs to, where it is, and redrawing it there.

What `patch_affine` and `paste` have in common: one object after the other, a window
of its image that holds the object's box is read, drawn anew and put back in place.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxwarp import _checks
from jaxwarp._sharding import vary_alike
from jaxwarp._windows import put, take

# Checks -----------------------------------------------------------------------


def images(name: str, x: Any, channels_last: bool) -> jax.Array:
    """Return a checked batch of two-dimensional images."""
    x = _checks.image_array(name, x)
    layout = "(N, H, W, C)" if channels_last else "(N, C, H, W)"
    holds = x.ndim == 4 and 0 not in spatial(x, channels_last)
    _checks.shape(name, x, f"{layout} with no empty spatial axis", holds)
    return x


def spatial(images: jax.Array, channels_last: bool) -> tuple[Any, Any]:
    """Return the height and width of a batch of images."""
    height, width = images.shape[1:3] if channels_last else images.shape[2:]
    return height, width


def integers(name: str, x: Any) -> Any:
    """Return an array of integers as int32; what does not fit becomes the nearest that does."""
    is_numpy = isinstance(x, np.ndarray | np.generic)
    array = np.asarray(x) if is_numpy else _checks.numeric_array(name, x)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must have an integer dtype, got {array.dtype}")
    if array.dtype == np.int32:
        return array
    own, limits = np.iinfo(array.dtype.name), np.iinfo(np.int32)
    low, high = max(own.min, limits.min), min(own.max, limits.max)
    return (np if is_numpy else jnp).clip(array, low, high).astype(np.int32)


def membership(obj_to_img: Any, valid: Any, batch: Any, count: Any) -> tuple[Any, Any]:
    """Return ``obj_to_img`` and ``valid`` for ``count`` objects, checked where concrete."""
    obj_to_img = integers("obj_to_img", obj_to_img)
    rule = f"({count},), one for each box"
    _checks.shape("obj_to_img", obj_to_img, rule, obj_to_img.shape == (count,))
    if valid is not None:
        valid = _checks.numeric_array("valid", valid)
        if valid.dtype != jnp.bool_:
            raise TypeError(f"valid must have dtype bool, got {valid.dtype}")
        _checks.shape("valid", valid, rule, valid.shape == (count,))
    index = concrete(obj_to_img, valid)
    if index is not None and isinstance(batch, int):
        for wrong in index[(index < 0) | (index >= batch)][:1]:
            raise ValueError(f"obj_to_img must index {batch} images, in [0, {batch}), got {wrong}")
    return obj_to_img, valid


def concrete(x: Any, valid: Any) -> np.ndarray | None:
    """Return the elements of ``x`` that are valid, or None if they are not known yet."""
    for array in (x, valid):
        if isinstance(array, Tracer):
            return None
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return None
    return np.asarray(x) if valid is None else np.asarray(x)[np.asarray(valid)]


def largest_box(max_box: Any, sizes: np.ndarray | None) -> tuple[Any, Any] | None:
    """Return a bound on the boxes' heights and widths, or None if none is known.

    Args:
        max_box: The argument, to be checked.
        sizes: The boxes' (height, width), or None if they are not known yet.
    """
    if max_box is None:
        if sizes is None:
            return None
        # Known boxes need no window as large as the image. Powers of 2: few programs.
        longest = sizes.max(initial=1, where=np.isfinite(sizes))
        power = 1 << int(min(np.ceil(longest), 2**30) - 1).bit_length()
        return power, power
    height, width = _checks.output_size("max_box", max_box, (2,), "(height, width)")
    if sizes is not None:
        for wrong in sizes[(sizes > np.asarray([height, width])).any(-1)][:1]:
            raise ValueError(
                f"max_box must be at least the largest box's (height, width),"
                f" got {(height, width)} for a box of {tuple(wrong.tolist())}"
            )
    return height, width


# Places -----------------------------------------------------------------------


class Places(NamedTuple):
    """Where K objects are: their images, and the pixels of their boxes along (y, x).

    An object with a size of 0 does nothing; images and firsts are within bounds for all.
    """

    image: jax.Array
    first: jax.Array
    size: jax.Array

    @classmethod
    def within(
        cls, shape: Sequence[Any], image: jax.Array, valid: Any, first: jax.Array, last: jax.Array
    ) -> "Places":
        """Clip half-open ranges of pixels to images of ``shape`` (N, H, W)."""
        count, *lengths = shape
        limits = jnp.asarray([lengths], jnp.int32)
        first, last = jnp.clip(first, 0, limits), jnp.clip(last, 0, limits)
        acts = (image >= 0) & (image < count)
        acts = acts if valid is None else acts & valid
        size = jnp.where(acts[:, None], jnp.maximum(last - first, 0), 0)
        return cls(jnp.clip(image, 0, count - 1), first, size)

    def only(self, which: jax.Array) -> "Places":
        """Let the other objects do nothing."""
        return self._replace(size=jnp.where(which[:, None], self.size, 0))

    def cover(self, corner: Any, window: Sequence[Any]) -> jax.Array:
        """Return which pixels of a window that begins at ``corner`` are in the box, (*window,)."""
        rows, columns = (
            (i >= self.first[..., a, None]) & (i < (self.first + self.size)[..., a, None])
            for a, i in enumerate(pixels(corner, window))
        )
        return rows[..., :, None] & columns[..., None, :]


def pixels(corner: Any, window: Sequence[Any]) -> list[jax.Array]:
    """Return the indices of a window's pixels along each axis."""
    return [jnp.arange(n, dtype=jnp.int32) + corner[a] for a, n in enumerate(window)]


def redraw(
    layers: Sequence[jax.Array],
    places: Places,
    operands: Sequence[jax.Array],
    window: tuple[Any, Any],
    channels_last: bool,
    draw: Callable[..., jax.Array],
) -> jax.Array:
    """Draw one object after the other into the last of ``layers``, and return that.

    Args:
        layers: One batch of images, or two: to read from and to draw into.
        places: Where the objects are; no box is larger than ``window``.
        operands: Arrays with one element for each object.
        window: Height and width of what is read and written for each object.
        channels_last: The layout of the images.
        draw: Given the windows to read and to draw into, (1, C, *window) or channels
            last, the first window's corner (y, x), the object's `Places` and operands,
            returns the window drawn anew.
    """
    # For the backward pass only the windows are kept, not what is computed from them.
    draw = jax.checkpoint(draw, prevent_cse=False)
    leaves, tree = jax.tree.flatten((tuple(layers), (places, tuple(operands))))
    carry, objects = jax.tree.unflatten(tree, vary_alike(leaves))
    lengths = spatial(carry[0], channels_last)
    channels = carry[0].shape[-1 if channels_last else 1]
    shape = _in_layout(1, channels, *window, channels_last)
    farthest = jnp.asarray([n - w for n, w in zip(lengths, window, strict=True)], jnp.int32)

    def step(layers: tuple[jax.Array, ...], item: Any) -> tuple[tuple[jax.Array, ...], None]:
        place, operands = item
        corner = jnp.minimum(place.first, farthest)
        origin = (place.image, jnp.zeros_like(place.image), corner[0], corner[1])
        start = jnp.stack(_in_layout(*origin, channels_last))
        rests, windows = zip(*(take(layer, start, shape) for layer in layers), strict=True)
        drawn = draw(windows[0], windows[-1], corner, place, *operands)
        contents = (*windows[:-1], drawn)
        return tuple(put(r, c, start) for r, c in zip(rests, contents, strict=True)), None

    return lax.scan(step, carry, objects)[0][-1]


def mark(images: jax.Array, places: Places, channels_last: bool) -> jax.Array:
    """Write NaN to every box. Costs next to nothing if there is none."""
    batch = jnp.arange(images.shape[0], dtype=jnp.int32)
    lengths = spatial(images, channels_last)

    @jax.checkpoint
    def marked(images: jax.Array) -> jax.Array:
        def step(covered: jax.Array, place: Places) -> tuple[jax.Array, None]:
            box = place.cover((0, 0), lengths)[None]
            return covered | (box & (batch == place.image)[:, None, None]), None

        none = jnp.zeros((images.shape[0], *lengths), bool)
        covered = lax.scan(step, none, places)[0]
        return jnp.where(jnp.expand_dims(covered, -1 if channels_last else 1), jnp.nan, images)

    return lax.cond(jnp.any(places.size > 0), marked, lambda images: images, images)


def _in_layout(batch: Any, channel: Any, y: Any, x: Any, channels_last: bool) -> tuple[Any, ...]:
    return (batch, y, x, channel) if channels_last else (batch, channel, y, x)
