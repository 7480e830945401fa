"""Over which axes of a mesh a value varies, in every version of JAX that is supported.

Inside `jax.shard_map` a value's type says so: under ``vma`` up to jax 0.10.1, under
``mat.varying`` from 0.10.2 on.
"""

import jax


def varying_axes(x: jax.Array) -> frozenset[str]:
    """Return the names of the mesh axes that ``x`` varies over inside `jax.shard_map`."""
    aval = jax.typeof(x)
    manual = getattr(aval, "mat", None)
    return aval.vma if manual is None else manual.varying
