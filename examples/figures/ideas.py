"""Draw the five ideas of "How it works" into examples/images/idea_*.svg.

Every drawing has a ground of its own, light or dark as the reader's screen is, so that it is
legible wherever it is shown.
"""

from pathlib import Path

IMAGES = Path(__file__).parents[1] / "images"
WIDTH = 460
STYLE = """
  .ground { fill: #f6f8fa } .ink { fill: #1f2937 } .soft { fill: #6b7280 }
  .line { stroke: #4b5563; fill: none } .pixel { fill: #e5e9ef; stroke: #9aa4b2 }
  .one { stroke: #1d4ed8; fill: none; stroke-width: 2.5 } .one-fill { fill: #1d4ed8 }
  .two { stroke: #b4470c; fill: none; stroke-width: 2.5 } .two-fill { fill: #b4470c }
  text { font: 13px system-ui, sans-serif; text-anchor: middle } .left { text-anchor: start }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #1c2128 } .ink { fill: #e6e8eb } .soft { fill: #a3acb8 }
    .line { stroke: #a3acb8 } .pixel { fill: #2f3742; stroke: #626d7b }
    .one { stroke: #7aa7ff } .one-fill { fill: #7aa7ff }
    .two { stroke: #ffa25c } .two-fill { fill: #ffa25c }
  }
"""


def text(x, y, words, kind="ink"):
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>'


def line(*points, kind="line"):
    return f'<polyline points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" class="{kind}"/>'


def box(x, y, width, height, kind="pixel", opacity=1.0):
    size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {size} class="{kind}" opacity="{opacity:g}"/>'


def dot(x, y, kind="one-fill", radius=5):
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius}" class="{kind}"/>'


def arrow(x, y, dx, dy, kind="line"):
    """A line from (x, y) with a head; along x or along y."""
    sign = (dx > 0) - (dx < 0), (dy > 0) - (dy < 0)
    tip = x + dx, y + dy
    back = tip[0] - 6 * sign[0], tip[1] - 6 * sign[1]
    side = 4 * abs(sign[1]), 4 * abs(sign[0])
    head = (back[0] + side[0], back[1] + side[1]), tip, (back[0] - side[0], back[1] - side[1])
    return line((x, y), tip, kind=kind) + line(*head, kind=kind)


# The ideas -------------------------------------------------------------------


def coordinates():
    """Where -1 and 1 fall on four pixels."""
    left, side = 70, 80
    for k in range(4):
        yield box(left + k * side, 60, side, 40)
        yield dot(left + (k + 0.5) * side, 80, "soft", 3)
        yield text(left + (k + 0.5) * side + 14, 85, str(k), "soft")
    for shift, y, up, kind, name in (
        (0, 110, 1, "one", "align_corners=False: the outer edges"),
        (side / 2, 50, -1, "two", "align_corners=True: the outer pixels' centres"),
    ):
        ends = left + shift, left + 4 * side - shift
        yield line((ends[0], y), (ends[1], y), kind=kind)
        for x, value in zip(ends, ("\N{MINUS SIGN}1", "1"), strict=True):
            yield line((x, y - 6), (x, y + 6), kind=kind)
            yield text(x + (14 if value == "1" else -16), y + 5, value, f"{kind}-fill")
        yield text(WIDTH / 2, y + up * 22 + (4 if up > 0 else 2), name, f"{kind}-fill")


def padding():
    """The position that is read over the position that is asked for, four pixels long."""
    for k, name in enumerate(("border", "reflection", "wrap")):
        x0, y0, unit = 26 + 148 * k, 120, 9.5
        yield box(x0 + 4 * unit, y0 - 8 * unit, 4 * unit, 8 * unit)
        yield line((x0, y0), (x0 + 12 * unit, y0))
        yield text(x0 + 6 * unit, 26, name)
        yield text(x0 + 6 * unit, 140, "0  …  4", "soft")
        for piece in PIECES[name]:
            points = ((x0 + unit * (p + 4), y0 - 2 * unit * q) for p, q in piece)
            yield line(*points, kind="one")


PIECES = {
    "border": [[(-4, 0), (0, 0), (4, 4), (8, 4)]],
    "reflection": [[(-4, 4), (0, 0), (4, 4), (8, 0)]],
    "wrap": [[(-4, 0), (0, 4)], [(0, 0), (4, 4)], [(4, 0), (8, 4)]],
}


def taps():
    """Weights of the pixels around position 3.3."""
    for k, (mode, weights) in enumerate(WEIGHTS.items()):
        x0, y0, unit, tall = 30 + 148 * k, 104, 34, 64
        yield text(x0 + 1.5 * unit, 26, mode)
        yield line((x0 - 14, y0), (x0 + 3 * unit + 14, y0))
        for pixel in range(4):
            x, weight = x0 + pixel * unit, weights.get(pixel + 2, 0)
            yield text(x, y0 + 28, str(pixel + 2), "soft")
            yield box(x - 8, y0 - max(weight, 0) * tall, 16, abs(weight) * tall, "one-fill")
        yield dot(x0 + 1.3 * unit, y0, "two-fill")


def keys(distance, a=-0.75):
    """Keys' cubic convolution."""
    d = abs(distance)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((d - 5) * d + 8) * d * a - 4 * a


WEIGHTS = {
    "nearest": {3: 1},
    "bilinear": {3: 0.7, 4: 0.3},
    "bicubic": {k: keys(k - 3.3) for k in range(2, 6)},
}


def product():
    """The four neighbours of a point, each with the product of its axes' weights."""
    x0, y0, side = 70, 44, 46
    along_x, along_y = {1: 0.7, 2: 0.3}, {0: 0.4, 1: 0.6}
    for row in range(2):
        for column in range(4):
            weight = along_x.get(column, 0) * along_y[row]
            corner = x0 + column * side, y0 + row * side
            yield box(*corner, side, side)
            if weight:
                yield box(*corner, side, side, "one-fill", weight)
                yield text(corner[0] + side / 2, corner[1] + side - 8, f"{weight:.2f}")
    yield dot(x0 + 1.8 * side, y0 + 1.1 * side, "two-fill")
    for column, weight in along_x.items():
        yield text(x0 + (column + 0.5) * side, y0 - 10, f"{weight}", "one-fill")
    for row, weight in along_y.items():
        yield text(x0 - 18, y0 + (row + 0.5) * side + 5, f"{weight}", "one-fill")
    words = ("one sum over the product", "of the axes' taps, in any", "number of axes")
    for k, words_of_line in enumerate(words):
        yield text(x0 + 4 * side + 20, 76 + 20 * k, words_of_line, "ink left")


def trilinear():
    """Three operations, each of which takes two of three and gives the third."""
    rows = (("image", "sample", "result"), ("result", "splat", "image"))
    for k, (given, name, found) in enumerate((*rows, ("image, result", "correlate", "weights"))):
        y = 36 + 44 * k
        yield text(96, y, given + ("" if "," in given else ", weights"))
        yield arrow(172, y - 5, 28, 0)
        yield box(206, y - 21, 96, 30, "one-fill", 0.18)
        yield text(254, y, name)
        yield arrow(308, y - 5, 28, 0)
        yield text(380, y, found)


def main():
    for number, (idea, height) in enumerate(
        ((coordinates, 160), (padding, 156), (taps, 150), (product, 156), (trilinear, 150)), 1
    ):
        parts = "\n".join(idea())
        title = " ".join((idea.__doc__ or "").split())
        (IMAGES / f"idea_{number}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
            f' width="{WIDTH}" height="{height}" role="img">\n<title>{title}</title>\n'
            f"<style>{STYLE}</style>\n"
            f'<rect width="{WIDTH}" height="{height}" rx="8" class="ground"/>\n{parts}\n</svg>\n'
        )


if __name__ == "__main__":
    main()
