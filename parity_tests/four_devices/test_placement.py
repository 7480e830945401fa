"""On several devices each computes its own part, in its own form."""

from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxwarp
from jaxwarp._layout import Layout
from jaxwarp._sampler import Rule, SampleSpec
from jaxwarp._sampler.backends import BACKENDS, cpu, forced, portable, tpu
from parity_tests.four_devices.test_sharding import (
    arrays,
    assert_same,
    collectives,
    sampler,
    with_gradients,
)

FORMS = [name for name in BACKENDS if name != "portable" and (name != "cpu" or not cpu.why_not())]


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("images", "rows"))


def place(mesh, arrays, *specs):
    return [jax.device_put(x, NamedSharding(mesh, s)) for x, s in zip(arrays, specs, strict=True)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channel_axis", [1, -1])
def test_images_over_all_devices(mesh, form, channel_axis):
    both = jax.jit(with_gradients(sampler("bilinear", channel_axis)))
    operands = arrays(4, 3, (24, 20), channel_axis=channel_axis)
    with forced(form):
        placed = place(mesh, operands, *[P(("images", "rows"))] * 3)
        compiled = both.lower(*placed).compile()
        assert collectives(compiled) == []
        assert_same(compiled(*placed), both(*operands))


@pytest.mark.parametrize("form", FORMS)
def test_one_sum_for_an_image_that_all_devices_share(mesh, form):
    """Not one for each neighbour."""
    both = jax.jit(with_gradients(sampler("bicubic")))
    operands = arrays(1, 3, (24, 20), (32, 20))
    rows = P(None, None, ("images", "rows")), P(None, ("images", "rows"))
    with forced(form):
        placed = place(mesh, operands, P(), rows[1], rows[0])
        compiled = both.lower(*placed).compile()
        assert collectives(compiled) == ["all-reduce"]
        assert_same(compiled(*placed), both(*operands))


@pytest.mark.parametrize("form", FORMS)
def test_images_over_one_axis_and_rows_over_another(mesh, form):
    both = jax.jit(with_gradients(sampler("bilinear", padding_mode="reflection")))
    operands = arrays(4, 2, (12, 14), (8, 10))
    with forced(form):
        placed = place(mesh, operands, P("images"), P("images", "rows"), P("images", None, "rows"))
        compiled = both.lower(*placed).compile()
        assert collectives(compiled) == ["all-reduce"]
        assert_same(compiled(*placed), both(*operands))


@pytest.mark.skipif(bool(cpu.why_not()), reason="no native kernels")
def test_the_kernels_are_called_by_each_device(mesh):
    operands = place(mesh, arrays(4, 3, (24, 20)), *[P(("images", "rows"))] * 3)
    compiled = jax.jit(with_gradients(sampler("bilinear"))).lower(*operands).compile()
    text = compiled.as_text() or ""
    assert text.count('custom_call_target="jaxwarp_run"') == 3
    assert "f32[1,3,24,20]" in text  # one device's part


def test_crops_spread_with_their_boxes(mesh):
    """Windows are cut as the points that they belong to."""
    image, _, _ = arrays(1, 3, (24, 20))
    boxes = np.array([[2, 3, 9, 8], [0, 0, 20, 24], [5, 5, 6, 6], [-3, 2, 30, 9]], np.float32)
    crop = jax.jit(partial(jaxwarp.crop_and_resize, size=(5, 4)))
    index = np.zeros(4, np.int32)
    placed = place(mesh, (image, boxes, index), P(), P("images"), P("images"))
    assert_same(crop(*placed), crop(image, boxes, index))


@pytest.mark.parametrize(("platform", "cut"), [("cuda", True), ("tpu", False)])
def test_compilers_are_told_how_to_cut_where_they_can_be(mesh, platform, cut):
    """That for TPUs fails on what tells it (github.com/jax-ml/jax/issues/38196)."""
    operands = place(mesh, arrays(4, 3, (24, 20)), *[P(("images", "rows"))] * 3)
    traced = jax.jit(with_gradients(sampler("bilinear"))).trace(*operands)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("CustomSPMDPartitioning" in text) == cut
    assert ("LayoutConstraint" in text) == (platform == "tpu")  # its own form all the same


# That for a CPU does not know either how a TPU's form wants its rows to lie, and copies them to all
# devices. So here are the numbers; that TPUs exchange nothing more than need be is seen in CI.
PLACES = {
    "images": (P(("images", "rows")),) * 3,
    "points": (P(), P(None, ("images", "rows")), P(None, None, ("images", "rows"))),
    "both": (P("images"), P("images", "rows"), P("images", None, "rows")),
}


@pytest.mark.parametrize("spread", PLACES)
@pytest.mark.parametrize("op", ["sample", "splat", "correlate"])
def test_a_compiler_that_is_told_nothing_spreads_the_form_for_tpus(mesh, op, spread):
    operands = place(mesh, arrays(8, 3, (12, 10), (8, 9)), *PLACES[spread])
    unused = {"sample": "values", "splat": "image"}.get(op)
    named = zip(("image", "grid", "values"), operands, strict=True)
    given = {name: x for name, x in named if name != unused}
    spec = SampleSpec.plain(Rule("bilinear", "zeros", False), Layout(False), (12, 10), "float32")
    ours = jax.jit(lambda given: tpu.spread(op, given, spec, len(mesh.devices.ravel())))(given)
    assert_same(ours, jax.jit(lambda given: getattr(portable, op)(given, spec))(given))
