"""The output size of convolutions and poolings, by torch's rules."""

from collections.abc import Sequence
from typing import overload

from jaxwarp import _checks

PerAxis = int | Sequence[int]


@overload
def conv_output_size(
    input_size: int,
    kernel_size: int,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    *,
    ceil_mode: bool = False,
) -> int: ...
@overload
def conv_output_size(
    input_size: Sequence[int],
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
) -> tuple[int, ...]: ...
def conv_output_size(
    input_size: PerAxis,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    *,
    ceil_mode: bool = False,
) -> int | tuple[int, ...]:
    """Compute the spatial output size of a convolution or a pooling.

    Args:
        input_size: Pixels along one axis, or along each axis in array order (H, W).
        kernel_size: Window size; like all that follows, one value for every axis or one
            value per axis.
        stride: Step of the window. Pooling layers of torch use ``kernel_size`` unless
            told otherwise: pass it.
        padding: Pixels added on *both* sides, or ``"valid"`` (none), or ``"same"``
            (as many as needed for ``ceil(input_size / stride)`` outputs; torch has it
            for stride 1 only, Flax for any). Strings in any case.
        dilation: Distance between the window's taps.
        ceil_mode: Round up instead of down, as torch's pooling layers offer.

    Returns:
        An int for an int ``input_size``, otherwise a tuple with one int per axis.

    Raises:
        TypeError: A size is not an integer.
        ValueError: A value is out of range, the number of axes differs, or the window
            does not fit into the padded input.

    Equals the shapes of ``torch.nn.Conv*d``, ``MaxPool*d`` and ``AvgPool*d``.

    Example:
        >>> conv_output_size((240, 320), 5)
        (236, 316)
        >>> conv_output_size((236, 316), 2, stride=2)
        (118, 158)
    """
    if isinstance(padding, str) and padding.lower() not in ("same", "valid"):
        raise ValueError(f"padding must be an integer, 'same' or 'valid', got {padding!r}")
    one_axis = not isinstance(input_size, Sequence)
    sizes = (input_size,) if one_axis else tuple(input_size)
    options = {
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": 0 if isinstance(padding, str) else padding,
        "dilation": dilation,
    }
    per_axis = [_per_axis(name, value, len(sizes)) for name, value in options.items()]
    same = isinstance(padding, str) and padding.lower() == "same"
    result = tuple(
        _one_axis(_checks.count("input_size", size), kernel, step, pad, gap, same, ceil_mode)
        for size, kernel, step, pad, gap in zip(sizes, *per_axis, strict=True)
    )
    return result[0] if one_axis else result


def _one_axis(
    size: int, kernel: int, stride: int, padding: int, dilation: int, same: bool, ceil_mode: bool
) -> int:
    if same:
        return -(-size // stride)
    span = dilation * (kernel - 1) + 1
    room = size + 2 * padding - span
    steps = -(-room // stride) if ceil_mode else room // stride
    # A window that would start in the padding on the far side is dropped (torch's rule).
    if ceil_mode and steps * stride >= size + padding:
        steps -= 1
    if steps < 0:
        raise ValueError(
            f"kernel_size {kernel} with dilation {dilation} spans {span} pixels and does not"
            f" fit into {size} pixels with padding {padding}"
        )
    return steps + 1


def _per_axis(name: str, value: PerAxis, axes: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(values) != axes:
        came = _checks.describe(value)
        raise ValueError(f"{name} must be an integer or {axes} of them, got {came}")
    least = 0 if name == "padding" else 1
    return tuple(_checks.count(name, v, least) for v in values)
