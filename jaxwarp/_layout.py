"""Where the channels of an array are: torch's layout, or Flax's.

Batches of images are (N, C, *spatial) or (N, *spatial, C), and what is sampled from them
lies in the same layout, with the grid's output axes in place of the spatial ones.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

_T = TypeVar("_T")
_A = TypeVar("_A", jax.Array, np.ndarray)


class Layout(NamedTuple):
    """One of the two layouts; hashable, so that it can be a static argument."""

    channels_last: bool

    @property
    def channel_axis(self) -> int:
        """The axis of the channels, 1 or -1."""
        return -1 if self.channels_last else 1

    @property
    def first_between(self) -> int:
        """The first of the axes between batch and channels, or after both."""
        return 1 if self.channels_last else 2

    def spatial(self, shape: Sequence[_T]) -> tuple[_T, ...]:
        """Return the sizes of all axes but batch and channels."""
        return tuple(shape[1:-1] if self.channels_last else shape[2:])

    def channels(self, shape: Sequence[_T]) -> _T:
        """Return the number of channels."""
        return shape[self.channel_axis]

    def arrange(self, batch: _T, channels: _T, spatial: Sequence[_T]) -> tuple[_T, ...]:
        """List what belongs to batch, channels and the other axes in this layout's order."""
        return (batch, *spatial, channels) if self.channels_last else (batch, channels, *spatial)

    def describe(self, spatial: str = "*spatial", batch: str = "N") -> str:
        """Name the axes, for an error's text."""
        return f"({', '.join(self.arrange(batch, 'C', [spatial]))})"

    def doubt(self, shape: Sequence[object]) -> str | None:
        """Say so if sizes look like the other layout's: 64 channels of 64 x 3 pixels.

        Only where hardly anything else can be meant: pictures of 3 or 4 channels, or square
        ones of 1, whose other axes are 16 or longer. Volumes of 3 slices do exist.
        """
        other, sizes = Layout(not self.channels_last), [d for d in shape if isinstance(d, int)]
        pictures = len(shape) == 4 or (len(shape) == 5 and not self.channels_last)
        if not pictures or len(sizes) < len(shape):
            return None
        spatial, few = other.spatial(sizes), other.channels(sizes)
        if min(spatial) < 16 or not (few in (3, 4) or (few == 1 and len(set(spatial)) == 1)):
            return None
        pixels = " x ".join(str(d) for d in self.spatial(sizes))
        return (
            f"read as {self.describe()}, it has {self.channels(sizes)} channels of {pixels}"
            f" pixels; for {other.describe()} pass channel_axis={other.channel_axis}"
        )

    def channels_to_end(self, x: _A) -> _A:
        """Move the channels of an array in this layout behind its other axes."""
        return x if self.channels_last else x.transpose(0, *range(2, x.ndim), 1)

    def channels_from_end(self, x: _A) -> _A:
        """Bring an array with channels behind all other axes into this layout."""
        return x if self.channels_last else x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))

    def batch_to_axis(self, x: jax.Array) -> jax.Array:
        """Make a batch of one whose first axis but batch and channels is the batch of ``x``."""
        return x[None] if self.channels_last else jnp.moveaxis(x, 0, 1)[None]

    def batch_from_axis(self, x: jax.Array) -> jax.Array:
        """Undo `batch_to_axis`."""
        return x[0] if self.channels_last else jnp.moveaxis(x[0], 1, 0)


def layout_of(channel_axis: int) -> Layout:
    """Return the layout that ``channel_axis`` names, or raise if it is neither 1 nor -1."""
    if isinstance(channel_axis, bool) or not isinstance(channel_axis, int):
        is_plain = isinstance(channel_axis, bool | str)
        came = repr(channel_axis) if is_plain else type(channel_axis).__name__
        raise TypeError(f"channel_axis must be the int 1 or -1, got {came}")
    if channel_axis not in (1, -1):
        raise ValueError(f"channel_axis must be 1 or -1, got {channel_axis}")
    return Layout(channels_last=channel_axis == -1)
