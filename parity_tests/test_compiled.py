"""What reads compiled programs, on programs compiled here; the compilers for others are in CI."""

import jax
import jax.numpy as jnp
import pytest

from parity_tests.compiled import _ceilings, _dumps, _hlo, _programs, _report
from parity_tests.harness import readme

# A scheduled program: a fusion that gathers 3 of 8 floats, in a loop of five rounds.
_LOOP = """
%fused (p0: f32[8], p1: s32[3]) -> f32[3] {
  %p0 = f32[8]{0} parameter(0)
  %p1 = s32[3]{0} parameter(1)
  ROOT %g = f32[3]{0} gather(%p0, %p1), offset_dims={}, slice_sizes={1}
}
%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0:T(256)}, /*index=2*/s32[3]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%t), index=1
  %i = s32[3]{0} get-tuple-element(%t), index=2
  %fusion.1 = f32[3]{0} fusion(%x, %i), kind=kLoop, calls=%fused
  %all-reduce.1 = f32[3]{0} all-reduce(%fusion.1), to_apply=%sum
  ROOT %r = (s32[], f32[8]{0}) tuple(%t, %x)
}
%test (t: (s32[], f32[8])) -> pred[] {
  %five = s32[] constant(5)
  %t = (s32[], f32[8]{0}) parameter(0)
  %k = s32[] get-tuple-element(%t), index=0
  ROOT %less = pred[] compare(%k, %five), direction=LT
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %w = (s32[], f32[8]{0}) while(%a), condition=%test, body=%body
  ROOT %copy.1 = f32[8]{0} copy(%a)
}
"""


def test_launches_and_bytes_of_a_loop():
    program = _hlo.parse(_LOOP)
    # Fusion, collective and the loop's own test in each round; one copy after it.
    assert program.launches() == 5 * 3 + 1
    gathered = 3 * 4 + 3 * 4 + 3 * 4
    in_a_round = gathered + 2 * 3 * 4 + (1 + 4 + 4)
    assert program.bytes_moved() == 5 * in_a_round + 2 * 8 * 4
    assert program.collectives() == {"all-reduce": 1}


def test_a_compiled_program_is_read():
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    text = jax.jit(lambda x: jnp.sin(x).sum(0) * 2).lower(x).compile().as_text()
    program = _hlo.parse(text or "")
    assert program.entry
    assert program.launches() >= 1
    assert program.bytes_moved() >= 64 * 64 * 4


def test_atomics_are_told_apart(tmp_path):
    lines = (
        "atom.relaxed.sys.global.cas.b32 %r1",
        "red.global.add.f32 [%rd1]",
        "@%p atom.global.v4.f32.add {%f1}",
    )
    (tmp_path / "module.ptx").write_text("\n".join(lines))
    assert _dumps.atomics(tmp_path) == {"compare-and-swap": 1, "single add": 1, "v4 add": 1}


@pytest.mark.parametrize("name", readme.DEVICES)
def test_committed_results_keep_their_ceilings(name):
    results = readme.read(f"compiled-{name}.json")
    assert list(_ceilings.exceeded(name, results["rows"])) == []
    text = (readme.RESULTS / f"compiled-{name}.md").read_text()
    assert text == _report.markdown(results)
    assert _report.HEADER.startswith("Nothing was run")


def test_what_exceeds_a_ceiling_is_named():
    row = {
        "group": "sampling",
        "name": "8x3x256x256 bilinear",
        "contender": "jaxwarp",
        "direction": "forward",
        "launches": 4,
        "bytes": 10**9,
        "temporary bytes": 0,
        "atomics": {"compare-and-swap": 2},
        "collectives": {},
        "bundles a point": {},
        "compile CPU seconds": 1,
    }
    found = list(_ceilings.exceeded("h100", [row]))
    assert [text.partition(": ")[2] for text in found] == [
        "launches 4, at most 3",
        "megabytes 1e+03, at most 55",
        "a compare-and-swap loop",
    ]


def test_every_ceiling_belongs_to_a_program():
    texts = [f"{p.name}, {p.contender}, {p.direction}" for p in _programs.programs()]
    for ceilings in _ceilings.CEILINGS.values():
        for ceiling in ceilings:
            assert any(_ceilings.matches(ceiling, text) for text in texts), ceiling


@pytest.mark.parametrize(
    "program",
    [p for p in _programs.programs() if p.group != "sampling" and p.direction != "forward"],
    ids=str,
)
def test_programs_can_be_traced(program):
    """Where no plugin is installed, too, a change of what they call is noticed."""
    out = jax.eval_shape(program.f, *program.arguments)
    assert all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(out))
