"""DB: the probability of text at each pixel, and the boxes of its words.

M. Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (2020). The
network sees text shrunken. Each connected part of it becomes the smallest rectangle around it,
which may be turned. The rectangle then grows by its area times a factor over its perimeter.
"""

from __future__ import annotations

import numpy as np

from ...graph import Array
from ..boxes import Candidates
from .outputs import Outputs

THRESHOLD = 0.3
"""Probability from which a pixel is text, as PaddleOCR has it."""
UNCLIP = 1.6
"""Factor by which boxes grow, as RapidOCR has it."""
MIN_SIDE, MIN_GROWN = 3.0, 5.0
"""Pixels of a shorter side, before and after it has grown; anything less is noise."""
MAX_PARTS = 1000
"""Connected parts that are looked at."""


def decode(outputs: Outputs) -> Candidates:
    """The candidates of one picture: a box around each piece of text.

    Their keypoints are the four corners of the turned rectangle, from the upper left one on.

    Raises:
        ShapeError: the output is no map of probabilities.
    """
    maps = [y for y in outputs.arrays.values() if y.ndim in (3, 4)]
    if not maps or maps[0].shape[:-2] not in ((1, 1), (1,)):
        outputs.refuse("a map of probabilities (1, 1, h, w)")
    probabilities = maps[0].reshape(maps[0].shape[-2:])
    h, w = probabilities.shape
    factor = outputs.task.get("unclip", UNCLIP)
    corners: list[Array] = []
    scores: list[float] = []
    with np.errstate(invalid="ignore"):
        text = probabilities > outputs.task.get("threshold", THRESHOLD)
    for points in parts(text)[:MAX_PARTS]:
        centre, axes, sides = smallest_rectangle(points)
        if sides.min() < MIN_SIDE:
            continue
        score = _mean_inside(probabilities, _corners(centre, axes, sides))
        distance = sides.prod() * factor / (2 * sides.sum())
        grown = sides + 2 * distance
        if not score > outputs.min_score or grown.min() < MIN_GROWN:
            continue
        corners.append(_corners(centre, axes, grown))
        scores.append(score)
    scale = np.array([outputs.size[1] / w, outputs.size[0] / h]) if h and w else np.ones(2)
    points = np.array(corners, np.float32).reshape(-1, 4, 2) * scale.astype(np.float32)
    return Candidates(
        np.concatenate([points.min(1), points.max(1)], 1),
        np.array(scores, np.float32),
        np.zeros(len(points), np.int64),
        keypoints=np.concatenate([points, np.ones_like(points[..., :1])], 2),
    )


def parts(mask: Array) -> list[Array]:
    """The connected parts of a mask bool (H, W), by their topmost pixels.

    Pixels are connected along sides and corners. Each part is (n, 2), x and y of the first and the
    last pixel of each of its runs in a row. They have the same hull as all its pixels.
    """
    padded = np.pad(mask, ((0, 0), (1, 1)))
    edges = padded[:, 1:] != padded[:, :-1]
    rows, columns = np.nonzero(edges)
    if not rows.size:
        return []
    row, begin, end = rows[::2], columns[::2], columns[1::2]  # run i: begin <= x < end
    firsts = np.searchsorted(row, np.arange(mask.shape[0] + 1))
    above = np.maximum(row - 1, 0)
    # The runs of the row above that touch run i: those that end at its begin or later and begin at
    # its end or earlier.
    low = _search(end, begin, firsts, above, "left")
    high = _search(begin, end, firsts, above, "right")
    high[row == 0] = low[row == 0]
    parent = np.arange(len(row))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    touching = np.flatnonzero(high > low)
    for i in touching.tolist():
        for k in range(int(low[i]), int(high[i])):
            a, b = root(i), root(k)
            parent[max(a, b)] = min(a, b)
    roots = np.array([root(i) for i in range(len(row))])
    order = np.argsort(roots, kind="stable")
    bounds = np.flatnonzero(np.diff(roots[order], prepend=-1))
    ends = np.stack([np.stack([begin, row], 1), np.stack([end - 1, row], 1)], 1)
    return [ends[part].reshape(-1, 2) for part in np.split(order, bounds[1:])]


def _search(values: Array, wanted: Array, firsts: Array, rows: Array, side: str) -> Array:
    """`np.searchsorted` of each wanted value among the sorted values of its row."""
    width = int(max(values.max(), wanted.max())) + 1
    owner = np.repeat(np.arange(len(firsts) - 1), np.diff(firsts))
    keys = owner * width + values
    return np.asarray(np.searchsorted(keys, rows * width + wanted, side))  # type: ignore[call-overload]


def smallest_rectangle(points: Array) -> tuple[Array, Array, Array]:
    """The rectangle of the least area around points (n, 2): its centre, two axes, and its sides.

    One of its sides lies along an edge of the convex hull (H. Freeman and R. Shapira, 1975).
    """
    hull = convex_hull(points).astype(np.float64)
    edges = np.roll(hull, -1, 0) - hull
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    edges = edges[lengths > 0] / lengths[lengths > 0, None]
    along = edges if len(edges) else np.array([[1.0, 0.0]])
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    u, v = hull @ along.T, hull @ across.T
    width, height = np.ptp(u, 0), np.ptp(v, 0)
    best = int((width * height).argmin())
    axes = np.stack([along[best], across[best]])
    middle = np.array([u[:, best].max() + u[:, best].min(), v[:, best].max() + v[:, best].min()])
    return middle / 2 @ axes, axes, np.array([width[best], height[best]])


def convex_hull(points: Array) -> Array:
    """The corners of the convex hull of points (n, 2), counter-clockwise (A. Andrew, 1979)."""
    unique = np.unique(points, axis=0)
    if len(unique) < 3:
        return unique
    listed: list[tuple[int, int]] = [(int(x), int(y)) for x, y in unique]

    def half(sequence: list[tuple[int, int]]) -> list[tuple[int, int]]:
        chain: list[tuple[int, int]] = []
        for x, y in sequence:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return np.array(half(listed) + half(listed[::-1]))


def _corners(centre: Array, axes: Array, sides: Array) -> Array:
    """(4, 2): the corners of a rectangle, clockwise in the picture, from the upper left one on."""
    half = sides / 2
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = centre + (signs * half) @ axes
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    left, right = (side[np.argsort(side[:, 1], kind="stable")] for side in (left, right))
    return np.stack([left[0], right[0], right[1], left[1]])


def _mean_inside(values: Array, corners: Array) -> float:
    """The mean of a map inside of a rectangle, its border included."""
    h, w = values.shape
    low = np.floor(corners.min(0)).astype(int).clip(0, [w - 1, h - 1])
    high = np.ceil(corners.max(0)).astype(int).clip(0, [w - 1, h - 1])
    y, x = np.mgrid[low[1] : high[1] + 1, low[0] : high[0] + 1]
    inside = np.ones(x.shape, bool)
    points = np.trunc(corners)  # pixels, as OpenCV fills a polygon
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, 0), strict=True):
        # Half a pixel of tolerance along the longer direction: the border's own pixels count.
        reach = max(abs(bx - ax), abs(by - ay)) / 2
        inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= -reach
    part = values[low[1] : high[1] + 1, low[0] : high[0] + 1][inside]
    return float(part.mean()) if part.size else 0.0
