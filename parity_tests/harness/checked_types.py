"""Call every public function with its signature checked: shapes by jaxtyping, the rest by beartype.

Run as a program of its own, because checked signatures raise before our own checks do.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import TypeCheckError, install_import_hook

PUBLIC = (
    "_grids",
    "_matrices",
    "_sample",
    "_warp_flow",
    "_flows",
    "_splines",
    "_spline_geometry",
    "_patches",
)
ROOMS = (
    "_spline",
    "_objects",
    "_matrix_algebra",
    "_small_matrix",
    "_coords",
    "_checks",
    "_layout",
    "_workarounds",
)
MODULES = ("_localization", "_spatial_transformer", "_tps", "_transforms")

FAMILIES = ("affine", "attention", "similarity", "homography", "expm_affine", "tps")
HOOKED = [f"jaxwarp.{m}" for m in (*PUBLIC, *ROOMS, *(f"nn.{m}" for m in MODULES))]

# pytest imports this module, too, when it looks for examples; what it tests must stay as it is.
with install_import_hook(HOOKED, "beartype.beartype") if __name__ == "__main__" else nullcontext():
    import jaxwarp
    import jaxwarp.nn


def traced(call: Callable[..., None], *arguments: int) -> None:
    """Call with arrays that have a shape and a dtype, and no values: signatures say no more."""
    jax.eval_shape(partial(call, *arguments))


def samplers(axes: int, channel_axis: int) -> None:
    spatial = (6, 5, 4)[:axes]
    shape = (2, 3, *spatial) if channel_axis == 1 else (2, *spatial, 3)
    image, points = jnp.ones(shape), jnp.zeros((2, 4, 3, axes))
    values = jaxwarp.grid_sample(image, points, channel_axis=channel_axis)
    jaxwarp.remap(image, points, channel_axis=channel_axis)
    jaxwarp.splat(values, points, spatial, channel_axis=channel_axis)
    flow = jnp.zeros((2, axes, *spatial) if channel_axis == 1 else (2, *spatial, axes))
    jaxwarp.warp_flow(image, flow, "nearest", ("wrap",) * axes, channel_axis=channel_axis)


def grids(axes: int) -> None:
    size = (2, 3, *(6, 5, 4)[:axes])
    theta = jnp.tile(jnp.eye(axes, axes + 1), (2, 1, 1))
    jaxwarp.affine_grid(theta, size)
    homography = jnp.tile(jnp.eye(axes + 1), (2, 1, 1))
    jaxwarp.homography_grid(homography, size)
    jaxwarp.flow_grid(np.zeros((2, *size[2:], axes), np.float32))
    jaxwarp.compose_affine(theta, jaxwarp.invert_affine(theta))
    for matrix in (theta, homography):
        jaxwarp.theta_from_pixels(matrix, size, size[2:])


def matrices() -> None:
    """Numbers for all pictures or for each, plain or in arrays."""
    size, each = (2, 3, 6, 5), np.array([1, 2])
    jaxwarp.affine_matrix(size)
    jaxwarp.affine_matrix(size, angle=90, scale=2, shear=10, translate=(1, 2), center=(0.5, 1))
    jaxwarp.affine_matrix(size, angle=[1.0, 2.0], scale=each, shear=each, center=[[0.0, 1.0]] * 2)
    jax.jit(lambda x, y: jaxwarp.affine_matrix(size, angle=x, translate=(x, y)))(1.0, 2.0)
    jaxwarp.affine_matrix(size, angle=jnp.ones(2), translate=jnp.ones((2, 2)))


def flows(axes: int) -> None:
    flow = np.zeros((2, *(6, 5, 4)[:axes], axes), np.float32)
    inverse = jaxwarp.invert_flow(flow, steps=2)
    jaxwarp.compose_flow(flow, inverse, padding_mode=("wrap",) * axes)
    jaxwarp.flow_jacobian_determinant(jaxwarp.integrate_velocity(flow, steps=1))


def splines(axes: int) -> None:
    target = jax.random.uniform(jax.random.key(0), (1, 6, axes))
    source = jnp.tile(target, (2, 1, 1)) + 0.1
    size = (2, 1, *(4, 3, 2)[:axes])
    jaxwarp.tps_grid(target, source, size, smoothing=0.1)
    # An operator is computed on the host, from values.
    known = np.random.default_rng(0).random((1, 6, axes), np.float32)
    jaxwarp.tps_operator(known, size)(source)
    spline = jaxwarp.tps_fit(target, source, smoothing=np.float32(0.0))
    points = jaxwarp.tps_apply(spline, source)
    jaxwarp.tps_invert(spline, points)
    jaxwarp.tps_jacobian_determinant(spline, points)
    jaxwarp.bending_energy(spline)


def objects(channel_axis: int) -> None:
    image = jnp.ones((2, 3, 8, 9) if channel_axis == 1 else (2, 8, 9, 3))
    boxes, theta = np.array([[0, 0, 4, 4], [2, 1, 5, 8]]), jnp.tile(jnp.eye(2, 3), (2, 1, 1))
    owner, valid = np.array([0, 1]), np.array([True, False])
    options = {"valid": valid, "channel_axis": channel_axis}
    for maps in (theta, theta.reshape(2, 6)):
        jaxwarp.patch_affine(image, boxes, maps, owner, **options)
    crops = jaxwarp.crop_and_resize(image, boxes, owner, (3, 2), **options)
    jaxwarp.paste(image, crops, boxes + 0.5, owner, **options)


def modules(axes: int, channel_axis: int) -> None:
    """Families of warps."""
    spatial = (9, 8, 7)[:axes]
    shape = (2, *spatial, 3) if channel_axis == -1 else (2, 3, *spatial)
    for family in FAMILIES if axes == 2 else ("affine", "tps"):
        transform = jaxwarp.nn.make_transform(family, axes)
        head = jaxwarp.nn.identity_head(3, transform, rngs=nnx.Rngs(0))
        for size in (None, (4, 3, 2)[:axes]):
            layer = jaxwarp.nn.SpatialTransformer(
                lambda x, head=head: head(jnp.ones((len(x), 3))),
                transform,
                size=size,
                channel_axis=channel_axis,
            )
            layer(jnp.ones(shape))


def spline_modules(axes: int) -> None:
    """Both modules of splines."""
    spatial = (9, 8, 7)[:axes]
    target = jaxwarp.nn.TPSTransform((2,) * axes).points()
    for module in (jaxwarp.nn.TPSGrid, jaxwarp.nn.LearnedTPSGrid):
        for points in (target, np.asarray(target)[None]):
            jax.eval_shape(module(points, spatial), jnp.stack([target, target]))


def localization() -> None:
    network = jaxwarp.nn.LocalizationNet(
        (9, 9, 1), channels=(2,), kernel_sizes=(3,), rngs=nnx.Rngs(0)
    )
    jax.eval_shape(network, jnp.ones((2, 9, 9, 1)))


def is_checked(call: Callable[[], object]) -> bool:
    """Tell whether what is wrong is noticed before our own checks do."""
    try:
        call()
    except TypeCheckError:
        return True
    return False


def main() -> None:
    assert is_checked(lambda: jaxwarp.affine_grid(jnp.zeros((2, 3)), (2, 3, 4, 5)))
    grid = jaxwarp.nn.TPSGrid(jaxwarp.nn.TPSTransform((2, 2)).points(), (3, 3))
    assert is_checked(lambda: grid(jnp.zeros((4, 2))))
    for axes in (1, 2, 3):
        traced(grids, axes)
        traced(flows, axes)
        traced(splines, axes)
        traced(modules, axes, -1)
        spline_modules(axes)
    matrices()
    localization()
    traced(modules, 2, 1)
    for channel_axis in (1, -1):
        traced(samplers, 2, channel_axis)
        traced(objects, channel_axis)


if __name__ == "__main__":
    main()
