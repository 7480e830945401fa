r"""Thin-plate splines: the smoothest map that takes given points to given points.

A spline maps *target* points to *source* points, output to input, as `grid_sample` wants::

    f(p)   = p + a_0 + A p + sum_t w_t U(|p - target_t|)        f(target_t) = source_t

    [ K + smoothing I   H ] [ w ]   [ source - target ]         K_ij = U(|target_i - target_j|)
    [ H^T               0 ] [ a ] = [        0        ]         H_i  = (1, target_i)

    U(r) = r^3 (1-D), r^2 log r (2-D), -r (3-D)

which minimises ``sum_t |f(target_t) - source_t|^2 + smoothing * w^T K w`` or, without
smoothing, interpolates with the least bending energy (Bookstein 1989; Duchon 1977)::

    E(f) = integral of sum_ij |d^2 f / dp_i dp_j|^2 = c * trace(w^T K w)     c = 12, 8 pi, 8 pi

The right-hand side is the *displacement*, which gives the same spline (it reproduces
affine maps) and keeps rounding relative to how far points move: points that stay put
give the identity exactly. All is computed in coordinates centred on the target points and
divided by their half-width, which matters in float32. `smoothing` is SciPy's: divide by 2
for the kernel r^2 log r^2, and multiply it by s^2 (1-D s^3, 3-D s) when all coordinates are
multiplied by s.

From the top down: `geometry` is what a spline does to space, `operator` the spline whose target
points are fixed; `fit` makes one from control points, `solve` solves its linear system,
`degenerate` says when that has no solution, `evaluate` maps points through it, `spline` is what
it consists of, and `kernel` writes it all down. `arguments` checks what the public functions
are given.
"""
