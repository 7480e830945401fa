"""Wrong calls of `jaxwarp.interop`."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jaxwarp import interop
from parity_tests.harness.wrong_calls.row import Wrong
from parity_tests.harness.wrong_calls.sampling import zeros

PICTURE, BATCH = np.zeros((2, 2, 3)), zeros(1, 3, 2, 2)

TABLE = [
    Wrong(
        "int pixels",
        "interop.from_image",
        (np.zeros((2, 2, 3), int),),
        TypeError,
        ("uint8 or floating",),
    ),
    Wrong(
        "bool pixels",
        "interop.from_image",
        (np.zeros((2, 2), bool),),
        TypeError,
        ("uint8 or floating",),
    ),
    Wrong(
        "5 axes in",
        "interop.from_image",
        (np.zeros((1, 3, 2, 2, 1)),),
        ValueError,
        ("(N, H, W, C), got shape",),
    ),
    Wrong(
        "axis 0 in",
        "interop.from_image",
        (np.zeros((2, 2, 3)),),
        ValueError,
        ("1 or -1",),
        {"channel_axis": 0},
    ),
    Wrong(
        "two out",
        "interop.to_image",
        (zeros(2, 3, 4, 4),),
        ValueError,
        ("batch of one picture",),
    ),
    Wrong(
        "no batch out",
        "interop.to_image",
        (zeros(3, 4, 4),),
        ValueError,
        ("batch of one picture",),
    ),
    Wrong(
        "int out",
        "interop.to_image",
        (zeros(1, 3, 4, 4, dtype="int32"),),
        TypeError,
        ("batch must have a real",),
    ),
    Wrong(
        "to int8",
        "interop.to_image",
        (zeros(1, 1, 2, 2),),
        TypeError,
        ("dtype", "uint8"),
        {"dtype": "int8"},
    ),
    Wrong(
        "axis 3 out",
        "interop.to_image",
        (zeros(1, 1, 2, 2),),
        ValueError,
        ("1 or -1",),
        {"channel_axis": 3},
    ),
    *(
        Wrong(
            f"{word} axis",
            op,
            (batch,),
            TypeError,
            ("channel_axis", "1 or -1"),
            {"channel_axis": x},
        )
        for op, batch in [("interop.from_image", PICTURE), ("interop.to_image", BATCH)]
        for word, x in [("true", True), ("float", 1.0), ("no", None)]
    ),
    Wrong(
        "ndarray",
        "interop.to_torch",
        (PICTURE,),
        TypeError,
        ("concrete JAX array, got ndarray",),
        known=True,
    ),
    Wrong(
        "traced",
        "interop.to_torch",
        (BATCH,),
        TypeError,
        ("concrete JAX array, got", "DynamicJaxprTracer"),
        call=jax.jit(interop.to_torch),
    ),
    Wrong(
        "int4",
        "interop.to_torch",
        (jax.device_put(BATCH.astype(jnp.int4)),),
        ValueError,
        ("int4 cannot become a torch tensor",),
        known=True,
    ),
    Wrong(
        "ndarray",
        "interop.from_torch",
        (PICTURE,),
        TypeError,
        ("dense torch.Tensor, got ndarray",),
        known=True,
    ),
    Wrong(
        "sparse",
        "interop.from_torch",
        (torch.eye(3).to_sparse(),),
        TypeError,
        ("dense torch.Tensor, got torch.sparse_coo",),
    ),
    Wrong(
        "torch module",
        "interop.load_state_dict",
        (torch.nn.Linear(2, 2), {}),
        TypeError,
        ("must be an nnx.Module, got Linear",),
    ),
    Wrong(
        "lists",
        "interop.load_state_dict",
        # Shapes only: what is made while tests are collected, every worker makes.
        (nnx.eval_shape(lambda: nnx.Linear(1, 1, rngs=nnx.Rngs(0))), {"weight": [[1.0]]}),
        TypeError,
        ("must be a dense torch.Tensor, got list",),
    ),
]
