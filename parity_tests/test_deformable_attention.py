"""The deformable attention of the example is that of transformers, with the same weights."""

import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxwarp.interop import load_state_dict

WIDTH, HEADS, POINTS, QUERIES = 16, 4, 3, 5
SIZES = ((6, 8), (3, 4), (2, 2))


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    sys.modules.pop("scattered_digits", None)
    sys.modules.pop("deformable_attention", None)


def modules():
    """Return transformers' module, with random weights in float64, and ours with the same."""
    transformers = pytest.importorskip("transformers")  # here, as its import takes a second
    from transformers.models.deformable_detr import modeling_deformable_detr as deformable_detr

    config = transformers.DeformableDetrConfig(
        d_model=WIDTH, num_feature_levels=len(SIZES), disable_custom_kernels=True
    )
    torch.manual_seed(0)
    theirs = deformable_detr.DeformableDetrMultiscaleDeformableAttention(config, HEADS, POINTS)
    theirs = theirs.double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)

    ours = importlib.import_module("deformable_attention").DeformableAttention(
        WIDTH, HEADS, len(SIZES), POINTS, rngs=nnx.Rngs(0)
    )
    nnx.update(ours, jax.tree.map(lambda x: x.astype(jnp.float64), nnx.state(ours)))
    load_state_dict(ours, theirs.state_dict())
    return theirs, ours


def operands(coordinates):
    random = np.random.default_rng(0)
    return {
        "queries": random.normal(size=(2, QUERIES, WIDTH)),
        "boxes": random.uniform(0.1, 0.9, (2, QUERIES, len(SIZES), coordinates)),
        "maps": [random.normal(size=(2, *size, WIDTH)) for size in SIZES],
    }


def masks():
    """Return which pixels of every map are no padding: a smaller picture, and one at the left."""
    return [
        np.stack([np.add.outer(np.arange(h) * w, np.arange(w) * h) < 0.9 * h * w, columns])
        for h, w in SIZES
        for columns in [np.broadcast_to(np.arange(w) < 0.7 * w, (h, w))]
    ]


def close(ours, theirs):
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, np.abs(theirs).max()))
    assert np.abs(theirs).max() > 1e-3


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("coordinates", [2, 4], ids=["points", "boxes"])
def test_outputs_and_every_gradient_are_transformers(coordinates, padded):
    theirs, ours = modules()
    inputs = operands(coordinates)
    cotangent = np.random.default_rng(1).normal(size=(2, QUERIES, WIDTH))

    mask = {"masks": masks()} if padded else {}
    flat = [torch.tensor(x).flatten(1) for x in mask.get("masks", [])]

    tensors = jax.tree.map(lambda x: torch.tensor(x, requires_grad=True), inputs)
    expected, weights = theirs(
        tensors["queries"],
        torch.cat(flat, 1) if padded else None,
        encoder_hidden_states=torch.cat([x.flatten(1, 2) for x in tensors["maps"]], 1),
        reference_points=tensors["boxes"],
        spatial_shapes=torch.tensor(SIZES),
        spatial_shapes_list=list(SIZES),
    )
    (expected * torch.tensor(cotangent)).sum().backward()

    def product(module, inputs):
        value = module(**inputs, **mask)
        return jnp.sum(value * cotangent), value

    inputs = jax.tree.map(jnp.asarray, inputs)
    differentiate = nnx.jit(nnx.value_and_grad(product, argnums=(0, 1), has_aux=True))
    (_, value), (parameters, gradients) = differentiate(ours, inputs)

    close(value, expected)
    sizes = [x.shape[1:3] for x in inputs["maps"]]
    close(ours.look(inputs["queries"], inputs["boxes"], sizes)[1], weights)
    jax.tree.map(lambda g, t: close(g, t.grad), gradients, tensors)
    for name, module in theirs.named_children():
        if name != "attn":
            close(parameters[name]["kernel"][...].T, module.weight.grad)
            close(parameters[name]["bias"][...], module.bias.grad)


def test_what_padding_holds_does_not_matter_but_what_it_hides_does():
    _, ours = modules()
    inputs = jax.tree.map(jnp.asarray, operands(4))
    maps = inputs.pop("maps")
    other = [jnp.where(m[..., None], x, x[::-1] - 7) for x, m in zip(maps, masks(), strict=True)]
    hidden = ours(**inputs, maps=maps, masks=masks())
    np.testing.assert_array_equal(ours(**inputs, maps=other, masks=masks()), hidden)
    assert np.abs(ours(**inputs, maps=maps) - hidden).max() > 0.1


def test_references_that_are_neither_points_nor_boxes_raise_and_so_do_missing_maps():
    _, ours = modules()
    inputs = jax.tree.map(jnp.asarray, operands(4))
    with pytest.raises(ValueError, match=r"boxes must be .* 2 or 4"):
        ours(**inputs | {"boxes": inputs["boxes"][..., :3]})
    for wrong in ({"maps": inputs["maps"][:2]}, {"masks": masks()[:2]}):
        with pytest.raises(ValueError, match=r"zip\(\) argument"):
            ours(**inputs | wrong)


def test_a_fresh_module_starts_as_the_paper_has_it():
    """Offsets point into one direction for each head, and all points count alike."""
    _, ours = modules()
    fresh = type(ours)(WIDTH, HEADS, len(SIZES), POINTS, rngs=nnx.Rngs(0))
    inputs = operands(2)
    where, weights = fresh.look(jnp.asarray(inputs["queries"]), jnp.asarray(inputs["boxes"]), SIZES)
    np.testing.assert_allclose(weights, 1 / (len(SIZES) * POINTS), rtol=1e-6)
    pixels = (where - inputs["boxes"][:, :, None, :, None]) * np.array(SIZES)[:, None, ::-1]
    along = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[:, None, None]
    expected = along * np.arange(1, POINTS + 1)[:, None] * np.ones((len(SIZES), 1, 1))
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=1e-5)
