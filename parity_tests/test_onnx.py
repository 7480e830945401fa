"""ONNX took GridSample and AffineGrid from torch: its conformance cases must pass.

ONNX's reference implementation knows any number of axes in every mode, so it is a second
opinion on the 3-D bicubic that torch does not have; with zeros only, because for border and
reflection it pads a cubic's position where torch pads each tap.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest

import jaxwarp
from parity_tests.harness import cases

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
sampling = pytest.importorskip("onnx.backend.test.case.node.gridsample")
gridding = pytest.importorskip("onnx.backend.test.case.node.affinegrid")

MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "cubic": "bicubic",
    "bicubic": "bicubic",
    "nearest": "nearest",
}


class Conformance(NamedTuple):
    """One of ONNX's cases: a node's attributes, what goes in, what must come out."""

    name: str
    attributes: dict[str, Any]
    inputs: list[np.ndarray]
    output: np.ndarray


def collect(module, exporter) -> list[Conformance]:
    """Let ONNX export its cases once more, and listen."""
    found = []

    def expect(node, inputs, outputs, name, **_):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        found.append(Conformance(name, attributes, inputs, outputs[0]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "expect", expect)
        for name in dir(exporter):
            if name.startswith("export"):
                getattr(exporter, name)()
    return found


def attribute(case: Conformance, name: str, default: Any) -> Any:
    value = case.attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("case", collect(sampling, sampling.GridSample), ids=lambda c: c.name)
def test_grid_sample_conforms(case: Conformance) -> None:
    mode = MODES[attribute(case, "mode", "linear")]
    padding_mode = attribute(case, "padding_mode", "zeros")
    align_corners = bool(attribute(case, "align_corners", 0))
    value = jaxwarp.grid_sample(*case.inputs, mode, padding_mode, align_corners)  # pyright: ignore
    assert value.dtype == case.output.dtype
    np.testing.assert_allclose(value, case.output, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("case", collect(gridding, gridding.AffineGrid), ids=lambda c: c.name)
def test_affine_grid_conforms(case: Conformance) -> None:
    theta, size = case.inputs
    grid = jaxwarp.affine_grid(theta, size.tolist(), bool(attribute(case, "align_corners", 0)))
    np.testing.assert_allclose(grid, case.output, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True], ids=["edges", "corners"])
@pytest.mark.parametrize(
    ("mode", "padding"),
    [("cubic", "zeros"), *itertools.product(("linear", "nearest"), cases.PADDINGS)],
)
@pytest.mark.parametrize("axes", [2, 3])
def test_onnx_reference_agrees(axes, mode, padding, align_corners) -> None:
    node = onnx.helper.make_node(
        "GridSample",
        ["X", "Grid"],
        ["Y"],
        mode=mode,
        padding_mode=padding,
        align_corners=int(align_corners),
    )
    evaluator = reference.ReferenceEvaluator(
        onnx.helper.make_model(
            onnx.helper.make_graph(
                [node],
                "graph",
                [onnx.helper.make_tensor_value_info(n, 11, None) for n in ("X", "Grid")],
                [onnx.helper.make_tensor_value_info("Y", 11, None)],
            ),
            opset_imports=[onnx.helper.make_opsetid("", 20)],
        )
    )
    rng = np.random.default_rng(axes)
    image = rng.normal(size=(2, 2, *(4, 3, 5)[:axes]))
    grid = rng.uniform(-1.4, 1.4, (2, *(2, 3, 2)[:axes], axes))
    (expected,) = evaluator.run(None, {"X": image, "Grid": grid})
    ours = jaxwarp.grid_sample(image, grid, MODES[mode], padding, align_corners)
    # Its weights are float32, whatever the image is.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 if mode == "nearest" else 1e-5)
