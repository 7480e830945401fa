"""The modules' values: identity at the start, torch's numbers, errors that say what was meant."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax.typing import DTypeLike

import jaxwarp
from jaxwarp.nn import (
    LearnedTPSGrid,
    LocalizationNet,
    MatrixTransform,
    SpatialTransformer,
    TPSGrid,
    TPSTransform,
    identity_head,
    make_transform,
)
from parity_tests.harness import torch_operations, torch_side

FAMILIES = ["affine", "attention", "similarity", "homography", "expm_affine", "tps"]
TRANSFORMS = {
    **{name: make_transform(name) for name in FAMILIES},
    "tps, bounded": TPSTransform((3, 5), bound=0.5),
    "affine, 3-D": MatrixTransform("affine", 3),
    "attention, 3-D": MatrixTransform("attention", 3),
    "homography, 3-D": MatrixTransform("homography", 3),
    "expm_affine, 3-D": MatrixTransform("expm_affine", 3),
    "tps, 3-D": TPSTransform((2, 3, 2)),
    "affine, 1-D": MatrixTransform("affine", 1),
    "attention, 1-D": MatrixTransform("attention", 1),
}


def normal(seed, *shape, dtype: DTypeLike = np.float64) -> jax.Array:
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def tensor(x) -> Any:
    return torch_side.tensor(np.asarray(x))


class Says(nnx.Module):
    """A localisation network that says the same of every image."""

    def __init__(self, params):
        self.params: Any = nnx.Param(params)

    def __call__(self, x):
        return jnp.broadcast_to(self.params[...][None], (x.shape[0], *self.params.shape))


def says_identity(transform, dtype=jnp.float64):
    return Says(jax.device_put(np.asarray(transform.identity, dtype)))


def near_identity(transform, seed=0, count=None, by=0.1):
    identity = np.asarray(transform.identity)
    shape = identity.shape if count is None else (count, *identity.shape)
    return jax.device_put(identity + by * np.asarray(normal(seed, *shape)))


# Identity and values -----------------------------------------------------------


@nnx.jit
def warp(layer, x):
    return layer.warp(x)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_family_leaves_the_image_or_reads_it_at_the_grid(name):
    transform = TRANSFORMS[name]
    n = transform.ndim
    spatial = (13, 28, 6)[:n]  # sizes whose pixel centres are not exact
    x = normal(0, 2, *spatial, 3, dtype=np.float32)
    centers = jaxwarp.affine_grid(np.eye(n, n + 1, dtype=np.float32)[None], (1, 1, *spatial))

    layer = SpatialTransformer(says_identity(transform, jnp.float32), transform)
    warped = warp(layer, x)
    np.testing.assert_array_equal(warped.image, x)
    np.testing.assert_array_equal(warped.grid, np.broadcast_to(centers, warped.grid.shape))

    away = near_identity(transform).astype(jnp.float32)
    warped = warp(SpatialTransformer(Says(away), transform), x)
    assert (np.abs(warped.grid - centers).max(axis=(0, *range(1, n + 1))) > 0.01).all()
    expected = jaxwarp.grid_sample(x, warped.grid, channel_axis=-1)
    np.testing.assert_allclose(warped.image, expected, atol=1e-4)


OPTIONS = [
    ("bilinear", "zeros", True),
    ("bilinear", "border", False),
    ("bicubic", "reflection", True),
    ("nearest", "reflection", False),
]


@pytest.mark.parametrize(("mode", "padding_mode", "align_corners"), OPTIONS)
def test_the_identity_changes_no_bit_whatever_the_options(mode, padding_mode, align_corners):
    layer = SpatialTransformer(
        says_identity(TRANSFORMS["affine"]),
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
    )
    for spatial in [(7, 1), (28, 9)]:
        x = normal(0, 1, *spatial, 2)
        np.testing.assert_array_equal(layer(x), x)
        np.testing.assert_array_equal(warp(layer, x).image, x)


@pytest.mark.parametrize("name", ["affine", "tps"])
def test_an_untrained_network_changes_no_bit_and_learns(name):
    layer = SpatialTransformer(
        LocalizationNet((20, 22, 2), name, kernel_sizes=(5, 3), rngs=nnx.Rngs(0)), name
    )
    x = normal(0, 3, 20, 22, 2, dtype=np.float32)

    @nnx.jit
    def image_and_gradient(layer):
        return layer(x), nnx.grad(lambda layer: (layer(x) ** 3).sum())(layer)

    image, gradient = image_and_gradient(layer)
    np.testing.assert_array_equal(image, x)
    head = gradient["localization"]["regressor"]["layers"][2]
    assert (jnp.abs(head["kernel"][...]).max(axis=0) > 0).all()


@pytest.mark.parametrize("name", ["affine", "tps, bounded"])
def test_a_half_precision_head_says_identity_exactly(name):
    transform = TRANSFORMS[name]
    head = identity_head(4, transform, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    layer = SpatialTransformer(lambda x: head(x.reshape(len(x), -1)[:, :4]), transform)
    x = normal(1, 2, 5, 7, 1).astype(jnp.bfloat16)
    warped = layer.warp(x)
    assert warped.image.dtype == jnp.bfloat16
    assert warped.grid.dtype == jnp.float32
    np.testing.assert_array_equal(warped.image, x)


# Values ----------------------------------------------------------------------


def torch_warp(x, theta, size, mode, padding_mode, align_corners):
    make = (
        torch_operations.homography_grid
        if theta.shape[1] == theta.shape[2]
        else torch_operations.affine_grid
    )
    grid = make(theta, size, align_corners)
    return torch_operations.grid_sample(x, grid, mode, padding_mode, align_corners), grid


TORCH_OPTIONS = [
    ("zeros", False, -1),
    ("border", True, 1),
    ("reflection", True, -1),
    ("reflection", False, 1),
]


@pytest.mark.parametrize(("padding_mode", "align_corners", "channel_axis"), TORCH_OPTIONS)
def test_equals_torchs_grid_and_sampler(padding_mode, align_corners, channel_axis):
    x, params = normal(0, 2, 3, 9, 7), near_identity(TRANSFORMS["affine"], by=0.4)
    options = {"padding_mode": padding_mode, "align_corners": align_corners}
    ours = SpatialTransformer(Says(params), size=(8, 5), channel_axis=channel_axis, **options)
    ct = normal(2, 2, 3, 8, 5)

    def loss(layer, x):
        x = x if channel_axis == 1 else jnp.moveaxis(x, 1, -1)
        y = layer(x) if channel_axis == 1 else jnp.moveaxis(layer(x), -1, 1)
        return (ct * y).sum(), y

    step = nnx.jit(nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, image), (gradient, gradient_x) = step(ours, x)

    their_x = tensor(x).requires_grad_()
    their_params = tensor(params).requires_grad_()
    theta = their_params.reshape(1, 2, 3).expand(2, 2, 3)
    expected, _ = torch_warp(their_x, theta, (8, 5), "bilinear", padding_mode, align_corners)
    (tensor(ct) * expected).sum().backward()
    np.testing.assert_allclose(image, expected.detach(), atol=1e-12)
    np.testing.assert_allclose(gradient_x, their_x.grad, atol=1e-12)
    np.testing.assert_allclose(
        gradient["localization"]["params"][...],
        their_params.grad,
        rtol=1e-11,
        atol=1e-11,
    )


def test_equals_torch_at_the_start_where_every_pixel_is_on_a_kink():
    # 8 pixels: nothing rounds, in torch neither.
    x, ct = normal(0, 2, 3, 8, 8), normal(1, 2, 3, 8, 8)
    layer = SpatialTransformer(says_identity(TRANSFORMS["affine"]), channel_axis=1)
    gradient = nnx.grad(lambda layer: (ct * layer(x)).sum())(layer)
    gradient = gradient["localization"]["params"][...]

    theta = torch.eye(2, 3, dtype=torch.float64).requires_grad_()
    image, _ = torch_warp(tensor(x), theta.expand(2, 2, 3), (8, 8), "bilinear", "zeros", False)
    (tensor(ct) * image).sum().backward()
    np.testing.assert_allclose(gradient, cast(Any, theta.grad).ravel(), atol=1e-12)


def _matrix(rows):
    return np.array([rows])


THETAS = {
    "affine": ([1.0, 2, 3, 4, 5, 6], _matrix([[1, 2, 3], [4, 5, 6]])),
    "attention": ([0.5, 2, 3], _matrix([[0.5, 0, 2], [0, 0.5, 3]])),
    "similarity": ([0.6, 0.8, 2, 3], _matrix([[0.6, -0.8, 2], [0.8, 0.6, 3]])),
    "homography": ([1.0, 2, 3, 4, 5, 6, 7, 8], _matrix([[1, 2, 3], [4, 5, 6], [7, 8, 1]])),
}


@pytest.mark.parametrize("name", THETAS)
def test_what_the_parameters_mean(name):
    params, theta = THETAS[name]
    found = make_transform(name).theta(jnp.array([params]))
    np.testing.assert_array_equal(found, theta)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_exponential_is_inverted_by_negation(n):
    import scipy.linalg

    transform = MatrixTransform("expm_affine", n)
    params = normal(0, 4, n * (n + 1))
    theta, back = transform.theta(params), transform.theta(-params)
    np.testing.assert_allclose(
        jaxwarp.compose_affine(theta, back),
        np.broadcast_to(np.eye(n, n + 1), (4, n, n + 1)),
        atol=1e-10,
    )
    generator = np.zeros((4, n + 1, n + 1))
    generator[:, :n] = params.reshape(4, n, n + 1)
    np.testing.assert_allclose(theta, scipy.linalg.expm(generator)[:, :n], rtol=1e-11)


def test_a_wild_exponential_stays_in_its_own_batch_element():
    params = normal(0, 3, 6).at[1].set(1e30).at[1, 0].set(jnp.nan)
    layer = SpatialTransformer(lambda x: params, "expm_affine")
    x = normal(1, 3, 5, 5, 1)
    alone = SpatialTransformer(lambda x: params[2:], "expm_affine")
    image = layer(x)
    np.testing.assert_array_equal(image[2:], alone(x[2:]))
    np.testing.assert_array_equal(image[1], 0)


# Splines ---------------------------------------------------------------------


class TorchTPS(torch.nn.Module):
    """The original module: an inverse made once, a base sampler, control points in."""

    def __init__(self, cpt, size):
        super().__init__()
        h, w = size
        y, x = torch.meshgrid(
            (2 * torch.arange(h, dtype=cpt.dtype) + 1) / h - 1,
            (2 * torch.arange(w, dtype=cpt.dtype) + 1) / w - 1,
            indexing="ij",
        )
        gpt = torch.stack([x, y], -1).reshape(1, -1, 2).expand(len(cpt), -1, 2)
        r, hpt = self._r(cpt, cpt), self._h(cpt)
        zeros = torch.zeros(len(cpt), 3, 3, dtype=cpt.dtype)
        system = torch.cat([torch.cat([r, hpt], 2), torch.cat([hpt.mT, zeros], 2)], 1)
        self.inverse, self.base = (
            torch.linalg.inv(system),
            torch.cat([self._r(gpt, cpt), self._h(gpt)], 2),
        )
        self.size = size

    @staticmethod
    def _r(p, q):
        squared = (p[:, :, None] - q[:, None]).square().sum(-1)
        return 0.5 * squared * torch.log(torch.where(squared > 0, squared, 1))

    @staticmethod
    def _h(p):
        return torch.cat([torch.ones_like(p[..., :1]), p], -1)

    def forward(self, cps):
        zeros = torch.zeros(len(cps), 3, 2, dtype=cps.dtype)
        grid = self.base @ (self.inverse @ torch.cat([cps, zeros], 1))
        return grid.reshape(len(cps), *self.size, 2)


@pytest.mark.parametrize("batch", ["one target for all", "a target each"])
@pytest.mark.parametrize("kind", [TPSGrid, LearnedTPSGrid])
def test_splines_equal_the_original_torch_module(kind, batch):
    lattice = TPSTransform((3, 4)).points().astype(jnp.float64)
    target = lattice[None] + 0.1 * normal(0, *((1, 12, 2) if "one" in batch else (3, 12, 2)))
    source = target + 0.2 * normal(1, 3, 12, 2)
    ours = kind(target[0] if "one" in batch else target, (6, 5))
    ct = normal(2, 3, 6, 5, 2)

    their_target = tensor(target).requires_grad_()
    their_source = tensor(source).requires_grad_()
    expected = TorchTPS(their_target, (6, 5))(their_source)
    (tensor(ct) * expected).sum().backward()
    np.testing.assert_allclose(ours(source), expected.detach(), atol=1e-11)
    in_source = jax.grad(lambda source: (ct * ours(source)).sum())(source)
    np.testing.assert_allclose(in_source, their_source.grad, atol=1e-10)

    in_target = nnx.grad(lambda to_grid: (ct * to_grid(source)).sum())(ours)
    if kind is TPSGrid:
        assert jax.tree.leaves(in_target) == []
    else:
        found = in_target["target"][...]
        np.testing.assert_allclose(found, their_target.grad, atol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_splines_that_go_nowhere_are_the_identity(dtype):
    target = normal(0, 20, 2).astype(dtype)
    for kind in (TPSGrid, LearnedTPSGrid):
        grid = kind(target, (7, 28), align_corners=True)(target[None])
        identity = jaxwarp.affine_grid(jnp.eye(2, 3, dtype=dtype)[None], (1, 1, 7, 28), True)
        assert grid.dtype == dtype
        np.testing.assert_array_equal(grid, identity)


def test_a_bound_holds():
    transform = TPSTransform((3, 3), bound=0.25)
    theta = transform.theta(100 * normal(0, 5, 18))
    moved = np.abs(theta - transform.points()[None].astype(theta.dtype))
    assert moved.max() == 0.25
    np.testing.assert_array_equal(transform.theta(jnp.zeros((1, 18)))[0], transform.points())


def test_a_size_given_or_not_is_the_same_spline():
    params, x = near_identity(TRANSFORMS["tps"]), normal(0, 2, 9, 8, 1)
    fixed = SpatialTransformer(Says(params), "tps", size=(9, 8))
    free = SpatialTransformer(Says(params), "tps")
    np.testing.assert_allclose(free(x), fixed(x), atol=1e-13)
    np.testing.assert_allclose(nnx.jit(lambda layer: layer(x))(free), fixed(x), atol=1e-13)


# Sizes -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 40, 3), (20, 20, 20, 2), (31, 4)])
def test_the_localisation_network_fits_its_input(shape):
    transform = MatrixTransform("affine", len(shape) - 1)
    network = nnx.eval_shape(
        lambda: LocalizationNet(shape, transform, hidden=(16, 8), rngs=nnx.Rngs(0))
    )
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    graph, state = nnx.split(network)
    result = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, x)
    assert result.shape == (2, len(transform.identity))


def test_the_output_size_is_free():
    network = LocalizationNet((28, 28, 1), rngs=nnx.Rngs(0))
    x = normal(0, 2, 28, 28, 1, dtype=np.float32)
    assert SpatialTransformer(network, size=(3, 50))(x).shape == (2, 3, 50, 1)
    assert SpatialTransformer(network, size=[28, 28])(x).shape == x.shape
