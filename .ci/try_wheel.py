"""Warp one image with an installed jaxwarp: ``python .ci/try_wheel.py native`` or ``portable``."""

import pathlib
import sys

import jax
import jax.numpy as jnp

import jaxwarp

form = {"native": "cpu (native kernels", "portable": "portable ("}[sys.argv[1]]
checkout = pathlib.Path(__file__).resolve().parents[1] / "jaxwarp"
assert checkout not in pathlib.Path(jaxwarp.__file__).resolve().parents, jaxwarp.__file__
assert jaxwarp.backend_of("cpu").startswith(form), jaxwarp.backend_of("cpu")

image = jnp.arange(12.0).reshape(1, 1, 3, 4)
upside_down = jaxwarp.affine_grid(
    jnp.array([[[1.0, 0, 0], [0, -1, 0]]]), image.shape, align_corners=False
)
warped = jax.jit(jaxwarp.grid_sample)(image, upside_down)
assert jnp.allclose(warped, image[:, :, ::-1], atol=1e-5), warped
print(f"jaxwarp {jaxwarp.__version__}, jax {jax.__version__}: {jaxwarp.backend_of('cpu')}")
