"""Writes docs/networks.md: every network of the zoo and torchvision's detectors, measured.

    python tests/models/scoreboard.py [NAME ...]           # agreement with PyTorch; all networks
    python tests/models/scoreboard.py --time [NAME ...]    # the time alone

The first is `pytest --scoreboard`: a network that fails its test in test_zoo.py gets no row, nor
does a detector that fails in test_detectors.py. Other rows stay as they are in the file. Exports
are kept in `--cache`; all of torchvision takes 31 GB of disk, and the largest network 11 GB of
memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/models", "tests", "examples")]

import pytest  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import cnnrt  # noqa: E402
import zoo  # noqa: E402

TABLE = ROOT / "docs" / "networks.md"

SMALL = "small_"
"""Prefix of networks in the default test run that stand for a family; the table has the families
themselves."""

TABLES = {
    "network": ("input", "parameters", "MACs", "default", "im2col", "no kernel", "ms"),
    "detector": ("parameters", "difference"),
}
"""Columns of the two tables, by that of the name."""

HEAD = """# Networks

Every network of `tests/models/zoo.py`: torchvision's classification, segmentation and video models
and those written out in `tests/models/architectures.py`, with seeded random weights, exported from
PyTorch {version}. `python tests/models/scoreboard.py` runs the test of each and writes the row of
those that pass.

* **MACs**: multiply-adds of one image of the input given.
* **default**, **im2col**: largest max |difference| / max |output| from PyTorch's float32, with
  default settings and with `algorithm="im2col"`. It is taken over batch 1 and 3 and, if the
  architecture allows, two sizes. The bounds are 1e-4 and 2e-5.
* **no kernel**: steps that run by an operator's NumPy reference.
* **ms**: one image of the input given, 2 threads, the shortest of several runs on {cpu}.

The table lacks the int8 networks of `torchvision.models.quantization`, which are refused with an
error that says so.
"""

DETECTORS = """
## Detectors

torchvision's detectors are exported as a whole: boxes, labels, scores, masks and keypoints.
`pytest -m zoo --scoreboard tests/models/test_detectors.py` holds each against PyTorch on pictures
of 160 x 200 and 192 x 144. Weights are random, and the threshold of the score leaves many
detections, one or none. Without detections all outputs are empty and of the same shapes.

* **difference**: largest max |difference| / max |output| of all outputs in all six cases. The bound
  is 1e-3: boxes are exponentials, and masks are sampled between pixels.
"""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="none: all of them")
    parser.add_argument("--time", action="store_true", help="measure the time only")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "zoo", help="of exports")
    args = parser.parse_args()
    names = args.names or [n for n in zoo.NETWORKS if not n.startswith(SMALL)]
    if not (args.names or args.time):
        names += zoo.DETECTION
    unknown = [n for n in names if n not in (*zoo.NETWORKS, *zoo.DETECTION)]
    if unknown:
        parser.error(f"unknown networks: {', '.join(unknown)}")
    if args.time:
        for name in names:
            row = timed(name, args.cache)
            update(name, row)
            print(name, *row.values(), flush=True)
        return 0
    os.environ["CNNRT_ZOO"] = str(args.cache)
    files = {n: "test_detectors" if n in zoo.DETECTION else "test_zoo" for n in names}
    options = ["-m", "", "--scoreboard", "--durations=0", "-v", f"--rootdir={ROOT}"]
    test = "test_agrees_with_pytorch"
    folder = ROOT / "tests/models"
    return pytest.main([*options, *(f"{folder / f}.py::{test}[{n}]" for n, f in files.items())])


def add(name: str, module: nn.Module, found: list[zoo.Agreement]) -> None:
    """Writes all columns of a network but the time."""
    if name.startswith(SMALL):
        return
    inputs = zoo.NETWORKS[name].inputs(0, 1)
    row = {
        "input": ", ".join("x".join(map(str, x.shape[1:])) for x in inputs),
        "parameters": short(parameters_of(module)),
        "MACs": short(macs(module, inputs)),
        "default": f"{max(a.default for a in found):.1e}",
        "im2col": f"{max(a.im2col for a in found):.1e}",
        "no kernel": str(max(len(a.references) for a in found)),
    }
    update(name, row)


def add_detector(name: str, module: nn.Module, difference: float) -> None:
    """Writes the row of a detector."""
    row = {"parameters": short(parameters_of(module)), "difference": f"{difference:.1e}"}
    update(name, row, "detector")


def parameters_of(module: nn.Module) -> int:
    """The number of trained numbers."""
    return sum(p.numel() for p in module.parameters())


def macs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Multiply-adds of convolutions, products and attention."""
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operator, that is not counted
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return int(counter.get_total_flops()) // 2


def timed(name: str, cache: Path) -> dict[str, str]:
    """The time of one image."""
    model = cnnrt.load(zoo.exported(name, None, 0, cache), threads=2)
    x = zoo.named_inputs(model, zoo.NETWORKS[name].inputs(0, 1))
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 1 and len(times) < 30):
        start = time.perf_counter()
        model.run(x)
        times.append(time.perf_counter() - start)
    return {"ms": f"{min(times) * 1e3:.3g}"}


def short(n: int) -> str:
    """A count in three digits and a letter."""
    for size, letter in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return str(n)


def update(name: str, columns: dict[str, str], table: str = "network") -> None:
    """Writes columns of a row; the others stay as they are."""
    rows = {key: read(key) for key in TABLES}
    row = rows[table].get(name) or dict.fromkeys(TABLES[table], "")
    rows[table][name] = row | columns
    write(rows)


def read(table: str) -> dict[str, dict[str, str]]:
    """The rows of a table in the file."""
    text = TABLE.read_text() if TABLE.exists() else ""
    _, _, rest = text.partition(f"| {table} | ")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return {c[0]: dict(zip(TABLES[table], c[1:], strict=True)) for c in cells}


def write(rows: dict[str, dict[str, dict[str, str]]]) -> None:
    """Writes both tables, in the order of the zoo."""
    head = HEAD.format(version=torch.__version__.split("+")[0], cpu=cpu())
    networks = lines_of("network", zoo.NETWORKS, rows["network"], texts=1)
    detectors = lines_of("detector", zoo.DETECTION, rows["detector"])
    TABLE.write_text("\n".join([head, *networks, DETECTORS, *detectors]) + "\n")


def lines_of(
    table: str, names: Iterable[str], rows: dict[str, dict[str, str]], texts: int = 0
) -> list[str]:
    """The lines of a table, of which the first `texts` columns beside the name are no numbers."""
    columns = TABLES[table]
    lines = [f"| {table} | " + " | ".join(columns) + " |"]
    lines += ["|---|" + "---|" * texts + "--:|" * (len(columns) - texts)]
    kept = [name for name in names if name in rows]
    return lines + [f"| {n} | " + " | ".join(rows[n][c] for c in columns) + " |" for n in kept]


def cpu() -> str:
    """The processor's name for itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [s.partition(":")[2].strip() for s in lines if s.startswith("model name")]
    return names[0] if names else "this machine"


if __name__ == "__main__":
    raise SystemExit(main())
