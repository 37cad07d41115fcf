"""Writes docs/networks.md: every network of the zoo, measured.

    python tests/models/scoreboard.py [NAME ...]           # agreement with PyTorch; all networks
    python tests/models/scoreboard.py --time [NAME ...]    # the time alone

The first is `pytest --scoreboard`: a network that fails its test in test_zoo.py gets no row. Rows
of networks that are not named stay as they are in the file. Exports are kept in `--cache`; all of
torchvision takes 31 GB of disk, and the largest network 11 GB of memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
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

COLUMNS = ("network", "input", "parameters", "MACs", "default", "im2col", "no kernel", "ms")

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

The table lacks torchvision's detectors, which `tests/models/test_detectors.py` exports as a whole
and holds against PyTorch: two sizes, with many detections, one and none. Faster R-CNN and SSDLite
(MobileNet) pass; FCOS and SSD300 agree to 1.4e-5 with many. Mask R-CNN fails with an index out of
range, RetinaNet's detections could not be paired, and the others were not tried.

It also lacks the int8 networks of `torchvision.models.quantization`, which are refused with an
error that says so.
"""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="none: all of them")
    parser.add_argument("--time", action="store_true", help="measure the time only")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "zoo", help="of exports")
    args = parser.parse_args()
    names = args.names or [n for n in zoo.NETWORKS if not n.startswith(SMALL)]
    unknown = [n for n in names if n not in zoo.NETWORKS]
    if unknown:
        parser.error(f"unknown networks: {', '.join(unknown)}")
    if args.time:
        for name in names:
            row = timed(name, args.cache)
            update(name, row)
            print(name, *row.values(), flush=True)
        return 0
    os.environ["CNNRT_ZOO"] = str(args.cache)
    test = f"{ROOT / 'tests/models/test_zoo.py'}::test_agrees_with_pytorch"
    options = ["-m", "", "--scoreboard", "--durations=0", "-v", f"--rootdir={ROOT}"]
    return pytest.main([*options, *(f"{test}[{name}]" for name in names)])


def add(name: str, module: nn.Module, found: list[zoo.Agreement]) -> None:
    """Writes all columns of a network but the time."""
    if name.startswith(SMALL):
        return
    inputs = zoo.NETWORKS[name].inputs(0, 1)
    row = {
        "input": ", ".join("x".join(map(str, x.shape[1:])) for x in inputs),
        "parameters": short(sum(p.numel() for p in module.parameters())),
        "MACs": short(macs(module, inputs)),
        "default": f"{max(a.default for a in found):.1e}",
        "im2col": f"{max(a.im2col for a in found):.1e}",
        "no kernel": str(max(len(a.references) for a in found)),
    }
    update(name, row)


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


def update(name: str, columns: dict[str, str]) -> None:
    """Writes columns of a row; the others stay as they are."""
    rows = read()
    row = rows.get(name) or dict.fromkeys(COLUMNS, "") | {"network": name}
    write({**rows, name: row | columns})


def read() -> dict[str, dict[str, str]]:
    """The rows of the table in the file."""
    if not TABLE.exists():
        return {}
    lines = [s for s in TABLE.read_text().splitlines() if s.startswith("| ")][1:]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return {c[0]: dict(zip(COLUMNS, c, strict=True)) for c in cells}


def write(rows: dict[str, dict[str, str]]) -> None:
    """Writes the table, in the order of the zoo."""
    ordered = [rows[name] for name in zoo.NETWORKS if name in rows]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    lines += ["| " + " | ".join(row[c] for c in COLUMNS) + " |" for row in ordered]
    head = HEAD.format(version=torch.__version__.split("+")[0], cpu=cpu())
    TABLE.write_text(head + "\n" + "\n".join(lines) + "\n")


def cpu() -> str:
    """The processor's name for itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [s.partition(":")[2].strip() for s in lines if s.startswith("model name")]
    return names[0] if names else "this machine"


if __name__ == "__main__":
    raise SystemExit(main())
