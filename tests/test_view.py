"""The drawing of a graph: places, contents, and the page in a browser."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser
from checks import Random
from cnnrt import cli
from cnnrt.analysis.drawing import drawing, statistics, write_page
from cnnrt.analysis.layers import layers
from cnnrt.analysis.layout import NODE_WIDTH, place
from cnnrt.formats import read
from networks import network

EXAMPLES = Path(__file__).parent.parent / "examples"
LITE0 = str(EXAMPLES / "efficientnet_lite0.bin")

# Layout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_places(seed: int) -> None:
    """Downwards, side by side without overlap, and routes from each node to its readers."""
    random = np.random.default_rng(seed)
    count = 60
    edges = [(i, i + 1) for i in range(count - 1) if random.random() < 0.8]
    edges += [tuple(sorted(random.choice(count, 2, replace=False).tolist())) for _ in range(40)]
    places = place(count, edges)  # type: ignore[arg-type]
    assert set(places.routes) == set(edges)
    for a, b in edges:
        route = places.routes[a, b]
        assert (route[0], route[-1]) == (places.nodes[a], places.nodes[b])
        assert [rank for _, rank in route] == list(range(route[0][1], route[-1][1] + 1))
        assert len(route) > 1
    rows: dict[int, list[float]] = {}
    for x, rank in places.nodes:
        assert NODE_WIDTH / 2 - 1e-6 <= x <= places.width - NODE_WIDTH / 2 + 1e-6
        rows.setdefault(rank, []).append(x)
    for row in rows.values():
        assert all(b - a >= NODE_WIDTH for a, b in itertools.pairwise(sorted(row)))
    assert max(rows) == places.ranks - 1


def test_a_chain_is_straight_and_a_branch_symmetric() -> None:
    chain = place(5, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert {x for x, _ in chain.nodes} == {NODE_WIDTH / 2}
    skip = place(5, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 3)])
    (_, (lane, _), (next_lane, _), _) = skip.routes[0, 3]
    assert lane == pytest.approx(next_lane, abs=15)
    assert lane > skip.nodes[1][0] + NODE_WIDTH / 2
    diamond = place(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    (top, left, right, bottom) = [x for x, _ in diamond.nodes]
    assert top == pytest.approx((left + right) / 2) == pytest.approx(bottom)


def test_no_crossing_that_can_be_avoided() -> None:
    """Two branches whose ends are numbered crosswise."""
    places = place(6, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5), (4, 5)])
    x = [x for x, _ in places.nodes]
    assert (x[1] < x[2]) == (x[4] < x[3])


def test_nothing_and_one() -> None:
    assert place(0, []).nodes == []
    assert place(1, []).nodes == [(NODE_WIDTH / 2, 0)]


# Contents ---------------------------------------------------------------------------------------


def test_everything_is_drawn() -> None:
    graph = read(LITE0).graph
    found = layers(graph, {graph.inputs[0].name: (1, 3, 224, 224)})
    page = drawing(found.original)
    assert len(page["boxes"]) == len(page["details"]) == len(found.original.nodes) + 2
    tensors = {n for node in found.original.nodes for n in node.inputs} - {*graph.constants, ""}
    assert len(page["labels"]) == len(tensors | {graph.outputs[0].name})
    assert {label["text"] for label in page["labels"]} >= {"1x3x224x224", "1x1280x1x1", "1x1000"}
    weights = [weight for detail in page["details"] for weight in detail["weights"]]
    assert len(weights) == sum(
        len({n for n in node.inputs if n in found.original.constants})
        for node in found.original.nodes
    )


def test_statistics() -> None:
    value = np.zeros((4, 25), np.float32)
    value[0] = np.linspace(-1, 3, 25)
    found = statistics(value)
    assert found["type"] == "float32 4x25"
    assert (found["min"], found["max"], found["mean"]) == (-1, 3, pytest.approx(0.25))
    assert found["std"] == pytest.approx(value.std())
    assert found["zeros"] == 0.76
    assert max(found["histogram"]) == 1
    assert sum(found["histogram"]) == pytest.approx(100 / 76, rel=0.01)
    assert statistics(np.array([1, 2]))["values"] == "[1 2]"
    odd = np.array([np.nan, np.inf, *range(20)], np.float32)
    assert statistics(odd)["max"] == 19
    assert "histogram" not in statistics(np.full(20, np.nan, np.float32))
    json.dumps(statistics(np.ones(20, bool)), allow_nan=False)


# The page ---------------------------------------------------------------------------------------


def test_page(browser: Browser, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "view.html"
    assert cli.main(["view", LITE0, "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"wrote {page}\n"
    browser.check(page)
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('.box').length") == 97
    # A click tells of a node and its weights.
    click = "new MouseEvent('click', {bubbles: true})"
    browser.evaluate(
        f"document.querySelectorAll('.box')[1].querySelector('rect').dispatchEvent({click})"
    )
    panel = browser.evaluate("document.getElementById('panel').innerText")
    for text in ("conv", "strides", "float32 32x3x3x3", "std", "zeros"):
        assert text in panel
    assert browser.evaluate("document.querySelectorAll('#panel svg rect').length") == 64
    assert browser.evaluate("document.querySelectorAll('.line.near').length") == 2
    # Searching finds and moves there.
    before = browser.evaluate("world.getAttribute('transform')")
    browser.evaluate(
        "search.value = '_blocks.9.', search.dispatchEvent(new Event('input')),"
        "search.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}))"
    )
    assert browser.evaluate("document.querySelectorAll('.box.found').length") == 6
    assert "_blocks.9." in browser.evaluate("document.getElementById('panel').innerText")
    assert browser.evaluate("world.getAttribute('transform')") != before
    # The whole graph fits into the window; so far away, text is left out.
    browser.evaluate("document.getElementById('fit').click()")
    assert browser.evaluate(
        "(() => { const a = world.getBoundingClientRect(), b = svg.getBoundingClientRect();"
        "return a.top > b.top - 1 && a.bottom < b.bottom + 1 && svg.classList.contains('far') })()"
    )
    browser.evaluate("svg.dispatchEvent(new WheelEvent('wheel', {deltaY: -900, cancelable: true}))")
    assert browser.evaluate("scale") > 0.1
    assert browser.report.errors == []


def test_names_are_not_markup(browser: Browser, tmp_path: Path, random: Random) -> None:
    pytest.importorskip("jinja2")
    evil = "</script><img/src=x/onerror=alert(1)>"
    graph = network(
        {evil: random(1, 4)},
        {"w": random(4, 9)},
        (evil + "y", "matmul", f"{evil} w"),
        outputs=[evil + "y"],
    )
    page = tmp_path / "evil.html"
    write_page(page, graph, {evil: (1, 4)}, title=evil)
    browser.check(page)
    browser.evaluate("choose(1)")
    assert evil in browser.evaluate("document.getElementById('panel').innerText")
    assert browser.evaluate("document.images.length") == 0


def test_fused(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "fused.html"
    assert cli.main(["view", LITE0, "-o", str(page), "--fused", "--input", "2x3x224x224"]) == 0
    text = page.read_text()
    assert "2x1280x1x1" in text
    assert "after fusion" in text
