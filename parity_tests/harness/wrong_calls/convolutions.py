"""Wrong calls of `jaxwarp.nn.conv_output_size`."""

from parity_tests.harness.wrong_calls.row import Wrong

TABLE = [
    Wrong(
        "window too large",
        "nn.conv_output_size",
        (
            4,
            5,
        ),
        ValueError,
        ("spans 5", "into 4 pixels"),
    ),
    Wrong(
        "dilated",
        "nn.conv_output_size",
        (
            4,
            3,
            1,
            0,
            2,
        ),
        ValueError,
        ("dilation 2 spans 5",),
    ),
    Wrong(
        "zero stride",
        "nn.conv_output_size",
        (
            4,
            2,
            0,
        ),
        ValueError,
        ("stride must be at least 1",),
    ),
    Wrong(
        "zero input",
        "nn.conv_output_size",
        (
            (4, 0),
            1,
        ),
        ValueError,
        ("input_size must be at least",),
    ),
    Wrong(
        "negative",
        "nn.conv_output_size",
        (
            4,
            2,
            1,
            -1,
        ),
        ValueError,
        ("padding must be at least 0",),
    ),
    Wrong(
        "float",
        "nn.conv_output_size",
        (
            4.0,
            2,
        ),
        TypeError,
        ("input_size must be an integer, got 4.0",),
    ),
    Wrong(
        "bool",
        "nn.conv_output_size",
        (
            4,
            True,
        ),
        TypeError,
        ("kernel_size must be an integer",),
    ),
    Wrong(
        "axes",
        "nn.conv_output_size",
        (
            (4, 4),
            (2,),
        ),
        ValueError,
        ("an integer or 2 of them",),
    ),
    Wrong(
        "word",
        "nn.conv_output_size",
        (
            4,
            2,
            1,
            "full",
        ),
        ValueError,
        ("'same' or 'valid', got 'full'",),
    ),
]
