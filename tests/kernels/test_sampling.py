"""Images read between their pixels, against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random, assert_close
from cnnrt.errors import IndexOutOfRange
from cnnrt.graph import Array
from networks import by_kernels, by_reference, network, operator

TOLERANCE = 2e-6


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(
    mode: str, padding: str, align: int, isa: str, threads: int, random: Random
) -> None:
    for shape, out in (
        ((2, 3, 7, 9), (5, 13)),
        ((1, 1, 5, 6), (7, 9)),
        ((1, 4, 5, 6), (8, 8)),
        ((2, 5, 6, 4), (3, 43)),
        ((1, 33, 1, 4), (9, 9)),
        ((1, 16, 6, 6), (1, 1)),
        ((2, 5, 11), (20,)),
        ((1, 4, 3, 4, 5), (2, 3, 6)),
    ):
        x, rank = random(*shape), len(shape) - 2
        grid = random(shape[0], *out, rank)
        corners = np.float32([-1, 1, 0, -5, 7.5, 1e20, -1e20])
        grid.reshape(-1)[: len(corners)] = corners[: grid.size]
        graph, inputs = operator(
            "grid_sample",
            x,
            grid,
            computed=[1],
            mode=mode,
            padding_mode=padding,
            align_corners=align,
        )
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, (shape, out))


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("shape", [(3, 6, 7), (16, 5, 5), (17, 4, 9)])
def test_parts_of_one_picture(
    shape: tuple[int, ...], last: bool, isa: str, threads: int, random: Random
) -> None:
    """The picture is repeated by `expand`; each grid cuts another part from it."""
    x, grid = random(1, *shape), random(4, 8, 9, 2)
    given = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x
    inputs = {"x": given, "grid": grid}
    graph = network(
        inputs,
        {"shape": np.array([4, *shape]), "two": np.float32(2)},
        ("t", "transpose", "x", {"perm": [0, 3, 1, 2] if last else [0, 1, 2, 3]}),
        ("e", "expand", "t shape"),
        ("y", "grid_sample", "e grid"),
        ("z", "mul", "e two"),
        outputs=["y", "z"],
    )
    got, doubled = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], TOLERANCE)
    assert np.array_equal(doubled, np.repeat(2 * x, 4, axis=0))
    for i in range(4):
        one, alone = operator("grid_sample", x, grid[i : i + 1], computed=[0, 1])
        assert np.array_equal(by_kernels(one, alone, isa=isa)[0], got[i : i + 1])


def test_grid_sample_of_the_middle_between_pixels(isa: str, random: Random) -> None:
    """Places at which a half decides which pixel is nearest, or which two are beside it."""
    x = random(1, 2, 8, 8)
    steps = np.arange(-1, 1 + 1 / 16, 1 / 16, dtype=np.float32)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1)[None]
    for mode in ("nearest", "linear", "cubic"):
        for align in (0, 1):
            graph, inputs = operator("grid_sample", x, grid, mode=mode, align_corners=align)
            (got,) = by_kernels(graph, inputs, isa=isa)
            assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, (mode, align))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_points_that_are_nowhere_are_zero(padding: str, isa: str, random: Random) -> None:
    grid = np.full((1, 2, 2, 2), np.nan, np.float32)
    graph, inputs = operator("grid_sample", random(1, 3, 4, 4), grid, padding_mode=padding)
    assert not by_kernels(graph, inputs, isa=isa)[0].any()


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_pixels_that_no_tap_reads_do_not_matter(channels: int, isa: str, random: Random) -> None:
    """Taps beyond the picture have no pixel, not a pixel times nothing."""
    x = random(1, channels, 3, 3)
    points = np.float32([[-9, -9], [9, 0], [1, 1], [0.5, 0.9], [0, 0], [-0.7, 1.3], [-1, -1]])
    grid = np.tile(points, (12, 1)).reshape(1, 12, 7, 2)
    graph, inputs = operator("grid_sample", x, grid, computed=[1])
    (want,) = by_reference(graph, inputs)
    x[:, :, 0, 0] = np.inf
    x[:, :, 0, 2] = np.nan
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert_close(got[..., :6], want[..., :6], TOLERANCE)
    assert not np.isfinite(got[..., 6]).any()


def regions(count: int, random: Random) -> Array:
    boxes = np.abs(random(count, 4)) * 6 - 1
    boxes[:, 2:] += boxes[:, :2] + 0.5
    return boxes


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_roi_align(
    mode: str, transformation: str, ratio: int, isa: str, threads: int, random: Random
) -> None:
    for channels, size, out in ((3, (9, 12), (2, 3)), (33, (14, 11), (7, 7)), (16, (1, 5), (1, 1))):
        x = random(2, channels, *size)
        boxes = regions(6, random)
        boxes[3] = [-30, -30, 60, 60]
        boxes[4] = [5, 5, 2, 2]
        boxes[5] = [1000, 1000, 1010, 1010]
        images = np.array([0, 1, 1, 0, 1, -1])
        graph, inputs = operator(
            "roi_align",
            x,
            boxes,
            images,
            computed=[1, 2],
            mode=mode,
            sampling_ratio=ratio,
            output_height=out[0],
            output_width=out[1],
            spatial_scale=0.75,
            coordinate_transformation_mode=transformation,
        )
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, (channels, size, out))


@pytest.mark.parametrize("ratio", [0, 2])
def test_regions_without_end(ratio: int, isa: str, random: Random) -> None:
    """Neither NaN and infinities nor a region as large as numbers go read beyond the image."""
    boxes = np.float32(
        [
            [0, 0, np.inf, 4],
            [-np.inf, 0, np.inf, 4],
            [np.nan, 0, 3, 4],
            [0, 0, 3e38, 3e38],
            [-3e38, 0, 3, 4],
            [0, 0, 1e6, 4],
        ]
    )
    options: dict[str, Any] = {"output_height": 2, "output_width": 2, "sampling_ratio": ratio}
    graph, inputs = operator("roi_align", random(1, 4, 5, 5), boxes, np.zeros(6, int), **options)
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert np.isfinite(got).all()


def test_roi_align_names_an_image_that_is_not_there(isa: str, threads: int, random: Random) -> None:
    x, boxes = random(2, 4, 5, 5), regions(3, random)
    for images in ([0, 2, 1], [-3, 0, 0]):
        index = np.array(images)
        graph = network({"x": x, "i": index}, {"b": boxes}, ("y", "roi_align", "x b i"))
        with pytest.raises(IndexOutOfRange, match=r"'y'.*(2|-3).* 2 "):
            by_kernels(graph, {"x": x, "i": index}, isa=isa, threads=threads)
