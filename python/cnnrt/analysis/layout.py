"""Places for the nodes of a graph on a page: in layers from top to bottom.

Sugiyama's method (Sugiyama, Tagawa and Toda, 1981) in three parts. Each node has a rank,
barycentres give an order in each rank with few crossings, and positions keep edges straight. Edges
over several ranks run through places that are kept free; those of one source share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NODE_WIDTH, LANE_WIDTH, GAP = 190.0, 10.0, 26.0
"""Widths in pixels; a lane is the place where an edge passes a rank."""
SWEEPS = 12
LANE_WEIGHT = 4.0
"""Weight of a lane's position against a node's: long edges look best straight."""


@dataclass(frozen=True)
class Places:
    """Positions of nodes and edges; x in pixels, y in ranks."""

    nodes: list[tuple[float, int]]
    """The middle of each node."""
    routes: dict[tuple[int, int], list[tuple[float, int]]]
    """The points that each edge passes, with the middles of both its nodes."""
    width: float
    ranks: int


def place(count: int, edges: Sequence[tuple[int, int]]) -> Places:
    """Places nodes, numbered in topological order, and the edges (from, to) between them."""
    if not count:
        return Places([], {}, 0.0, 0)
    edges = sorted(set(edges))
    rank = _ranks(count, edges)
    rows: list[list[int]] = [[] for _ in range(max(rank) + 1)]
    for node in range(count):
        rows[rank[node]].append(node)
    lanes: dict[tuple[int, int], int] = {}
    links: list[tuple[int, int]] = []
    chains = {}
    size = count
    for source, target in edges:
        chain = [source]
        for row in range(rank[source] + 1, rank[target]):
            if (source, row) not in lanes:
                lanes[source, row] = size
                rows[row].append(size)
                links.append((chain[-1], size))
                size += 1
            chain.append(lanes[source, row])
        links.append((chain[-1], target))
        chains[source, target] = [*chain, target]
    above: list[list[int]] = [[] for _ in range(size)]
    below: list[list[int]] = [[] for _ in range(size)]
    for a, b in dict.fromkeys(links):
        below[a].append(b)
        above[b].append(a)
    _order(rows, above, below, size)
    x = _positions(rows, above, below, size, count)
    left = min(x) - NODE_WIDTH / 2
    x = [v - left for v in x]
    where = [0] * size
    for r, members in enumerate(rows):
        for v in members:
            where[v] = r
    routes = {edge: [(x[v], where[v]) for v in chain] for edge, chain in chains.items()}
    nodes = [(x[v], rank[v]) for v in range(count)]
    return Places(nodes, routes, max(x) + NODE_WIDTH / 2, len(rows))


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The rank of each node: below all that it reads, or just above its first reader if it reads
    nothing."""
    rank = [0] * count
    first: dict[int, int] = {}
    read = {b for _, b in edges}
    for a, b in sorted(edges, key=lambda edge: edge[1]):
        rank[b] = max(rank[b], rank[a] + 1)
    for a, b in edges:
        first[a] = min(first.get(a, count), rank[b])
    return [first[v] - 1 if v not in read and v in first else rank[v] for v in range(count)]


def _order(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], size: int
) -> None:
    """Sorts each row by the mean place of what it is linked to, down and up in turns."""
    index = [0.0] * size
    for row in rows:
        for i, v in enumerate(row):
            index[v] = float(i)
    for sweep in range(SWEEPS):
        near = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            key = {v: _mean([index[u] for u in near[v]], index[v]) for v in row}
            row.sort(key=key.__getitem__)
            for i, v in enumerate(row):
                index[v] = float(i)


def _positions(
    rows: list[list[int]],
    above: list[list[int]],
    below: list[list[int]],
    size: int,
    count: int,
) -> list[float]:
    """Positions in the order of the rows, each as near as possible to its neighbours."""
    x = [0.0] * size
    half = [NODE_WIDTH / 2 if v < count else LANE_WIDTH / 2 for v in range(size)]
    weight = [1.0 if v < count else LANE_WEIGHT for v in range(size)]
    for sweep in range(SWEEPS + 1):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            # The last sweep looks both ways.
            near = [
                [*above[v], *below[v]] if sweep == SWEEPS else (above if down else below)[v]
                for v in row
            ]
            wanted = [_mean([x[u] for u in us], x[v]) for v, us in zip(row, near, strict=True)]
            offset, offsets = 0.0, []
            for i, v in enumerate(row):
                if i:
                    offset += half[row[i - 1]] + half[v] + GAP
                offsets.append(offset)
            fitted = _increasing(
                [w - o for w, o in zip(wanted, offsets, strict=True)], [weight[v] for v in row]
            )
            for v, f, o in zip(row, fitted, offsets, strict=True):
                x[v] = f + o
    return x


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _increasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest non-decreasing sequence by weighted least squares (pool adjacent violators)."""
    groups: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, size = value, weight, 1
        while groups and groups[-1][0] > mean:
            m, w, n = groups.pop()
            mean, total, size = (m * w + mean * total) / (w + total), w + total, n + size
        groups.append((mean, total, size))
    return [mean for mean, _, size in groups for _ in range(size)]
