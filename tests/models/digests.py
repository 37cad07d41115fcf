"""Records the results and the plans of networks, and compares them bit by bit.

    python tests/models/digests.py record before.json --networks all    # with one build of cnnrt
    python tests/models/digests.py compare before.json                  # with another

A record has the text of `Model.describe` and the SHA-256 of each output. It has them for every
network, tier of the machine, input size, batch and number of threads. Both commands use the cnnrt
of the Python that runs them: with the Python of another environment they test the build that is
installed there. Exported networks stay in `--files`, so that two builds read the same bytes.

`tests/models/digests.json` is such a record of a few networks, which `test_digests.py` holds every
build to. A change that is meant to alter plans or bits renews it:

    python tests/models/digests.py record tests/models/digests.json --networks kept --sizes 1

Weights and inputs are functions of their names through the raw numbers of NumPy's PCG64, which all
versions of NumPy draw alike. PyTorch's random numbers and batch-norm statistics have no part in
them.

The bits depend on the tier alone, not on the processor: GCC 12 and Clang 14 gave the same ones on
every x86-64 tier. The portable tier has no fused multiply-add there, but the compiler may give it
one on AArch64. So a record holds for one architecture, which it names.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import math
import os
import platform
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cnnrt
from cnnrt import _core

ROOT = Path(__file__).resolve().parent.parent.parent
Record = dict[str, Any]

RECORD = Path(__file__).with_suffix(".json")
"""The record under version control."""

EXAMPLES = {"example_lenet5": "lenet5.bin", "example_efficientnet_lite0": "efficientnet_lite0.bin"}
"""Networks that need no export: files of the folder `examples`."""

KEPT = (
    *EXAMPLES,
    "course_rgb",
    "unet",
    "unet3d",
    "wavenet",
    "textcnn",
    "gcn_edges",
    "espcn",
    "small_resnext",
    "small_efficientnet",
    "small_vit",
)
"""The networks of `RECORD`. None has constants that are folded by a matrix product, which BLAS
computes in an order of its own on each processor."""

LARGE = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "vgg11")
"""Networks beyond the quick half of the zoo, which are recorded at one size."""

BATCHES = (1, 3)
THREADS = (1, 2)
CHUNK = 1 << 20


def all_names() -> list[str]:
    """The examples, the quick half of the zoo, and `LARGE`."""
    import zoo

    return [*EXAMPLES, *(n.name for n in zoo.NETWORKS.values() if n.quick), *LARGE]


# ------------------------------------------------------------------------------------------------
# Networks and inputs


def uniform(name: str, shape: Sequence[int], low: float, high: float) -> np.ndarray:
    """Float32 numbers between two bounds; the same for the same name, on every machine."""
    source = np.random.PCG64(zlib.crc32(name.encode()))
    result = np.empty(math.prod(shape), np.float32)
    for first in range(0, result.size, CHUNK):
        part = result[first : first + CHUNK]
        part[:] = (source.random_raw(part.size) >> np.uint64(40)).astype(np.float32)
        part *= np.float32(2.0**-24 * (high - low))
        part += np.float32(low)
    return result.reshape(tuple(shape))


def set_weights(module: Any, name: str) -> None:
    """Gives a PyTorch module weights that are functions of their names.

    Matrices have the variance of He et al. 2015. Norms scale by about 1, the last norm of a
    residual branch by a third of that, so that no network overflows or dies out.
    """
    import torch

    import zoo

    norms = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.LayerNorm)
    scales = {id(m.weight): (0.7, 1.3) for m in module.modules() if isinstance(m, norms)}
    scales |= {id(m.weight): (0.2, 0.4) for m in zoo.last_norms(module)}
    for key, tensor in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
        if id(tensor) in scales:
            low, high = scales[id(tensor)]
        elif key.endswith("running_var"):
            low, high = 0.5, 1.5
        elif key.endswith(("layer_scale", "logit_scale")):
            low, high = 0.2, 1.0
        elif isinstance(tensor, torch.nn.Parameter) and tensor.ndim > 1:
            high = math.sqrt(6 * len(tensor) / tensor.numel())
            low = -high
        elif isinstance(tensor, torch.nn.Parameter) or key.endswith("running_mean"):
            low, high = -0.1, 0.1
        else:  # tables of indices and the like, which the network computes itself
            continue
        values = uniform(f"{name} {key}", tuple(tensor.shape), low, high)
        tensor.data = torch.from_numpy(values).to(tensor.dtype)


@dataclass(frozen=True)
class Case:
    """One file, and the inputs of one size and batch for it."""

    file: Path
    size: int
    batch: int
    shapes: tuple[tuple[int, ...], ...]
    integers: tuple[np.ndarray | None, ...]
    """Values of each input that is not of floats."""

    def inputs(self, model: cnnrt.Model) -> dict[str, np.ndarray]:
        """The inputs by name."""
        return {
            spec.name: uniform(f"input {i}", shape, -2, 2) if given is None else given
            for i, (spec, shape, given) in enumerate(
                zip(model.inputs, self.shapes, self.integers, strict=True)
            )
        }


def cases(name: str, folder: Path, sizes: int) -> list[Case]:
    """The cases of a network at up to so many sizes; writes files that `folder` lacks."""
    if name in EXAMPLES:
        file = ROOT / "examples" / EXAMPLES[name]
        image = (1, 28, 28) if name == "example_lenet5" else (3, 224, 224)
        return [Case(file, 0, batch, ((batch, *image),), (None,)) for batch in BATCHES]
    import torch

    import zoo

    network = zoo.NETWORKS[name]
    module = None
    result = []
    for size in range(1 if name in LARGE else min(sizes, network.sizes)):
        path = folder / f"{name}.{0 if network.free else size}.bin"
        if not path.exists():
            if module is None:
                torch.manual_seed(0)
                module = network.build().eval()
                if not network.pretrained:
                    set_weights(module, name)
            folder.mkdir(parents=True, exist_ok=True)
            zoo.export(name, module, size, path)
        for batch in BATCHES:
            given = network.inputs(size, batch)
            integers = tuple(None if x.is_floating_point() else x.numpy() for x in given)
            result.append(Case(path, size, batch, tuple(tuple(x.shape) for x in given), integers))
    return result


# ------------------------------------------------------------------------------------------------
# Records


def digest(array: np.ndarray) -> str:
    """The SHA-256 of an array's type, shape and bits."""
    head = f"{array.dtype.str} {array.shape} "
    return hashlib.sha256(head.encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def measure(
    name: str, isa: str, folder: Path, sizes: int
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Runs a network on one tier.

    Yields:
        For each case its title, the text of `Model.describe` and the digest of each output.
    """
    before = os.environ.get("CNNRT_ISA")
    os.environ["CNNRT_ISA"] = isa
    try:
        found = cases(name, folder, sizes)
        for file in dict.fromkeys(case.file for case in found):
            for threads in THREADS:
                model = cnnrt.load(file, threads=threads)
                for case in [c for c in found if c.file == file]:
                    x = case.inputs(model)
                    names = [spec.name for spec in model.outputs]
                    results = model.run(x, outputs=names)
                    outputs = results if isinstance(results, dict) else {names[0]: results}
                    for key, value in outputs.items():
                        assert np.isfinite(value).all(), f"{name}: {key} is not finite"
                        assert np.ptp(value) > 0, f"{name}: {key} is constant"
                    title = f"size {case.size}, batch {case.batch}, threads {threads}"
                    text = model.describe(x)
                    yield title, text, {key: digest(value) for key, value in outputs.items()}
    finally:
        if before is None:
            del os.environ["CNNRT_ISA"]
        else:
            os.environ["CNNRT_ISA"] = before


def plan_digest(text: str) -> str:
    """The start of the SHA-256 of a plan's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def without_padding(text: str) -> list[str]:
    """The lines of a plan's text with its columns two spaces apart."""
    return [re.sub(r" {2,}", "  ", line) for line in text.splitlines()]


def record(names: Sequence[str], folder: Path, sizes: int) -> Record:
    """A record of networks at up to so many sizes on all tiers of this machine."""
    plans: dict[str, list[str]] = {}
    networks: dict[str, Any] = {}
    for name in names:
        networks[name] = {}
        for isa in _core.isas():
            entries = networks[name][isa] = {}
            for title, text, outputs in measure(name, isa, folder, sizes):
                key = plan_digest(text)
                plans[key] = without_padding(text)
                entries[title] = {"plan": key, "outputs": outputs}
        print(name, file=sys.stderr, flush=True)
    machine = platform.machine()
    return {"machine": machine, "sizes": sizes, "networks": networks, "plans": plans}


def differences(recorded: Record, name: str, isa: str, folder: Path) -> list[str]:
    """The differences of a network from a record on a tier: sentences, and diffs of plans."""
    entries = dict(recorded["networks"][name][isa])
    found: list[str] = []
    shown: set[tuple[str, ...]] = set()
    for title, text, outputs in measure(name, isa, folder, recorded["sizes"]):
        where = f"{name}, {isa}, {title}"
        entry = entries.pop(title, None)
        if entry is None:
            found.append(f"{where}: not recorded")
            continue
        if plan_digest(text) != entry["plan"]:
            before, now = recorded["plans"][entry["plan"]], without_padding(text)
            diff = tuple(difflib.unified_diff(before, now, "recorded", "now", lineterm="", n=1))
            found.append(f"{where}: describe() has another text" + ("" if diff in shown else ":"))
            found += [] if diff in shown else diff or ["(other spaces)"]
            shown.add(diff)
        if outputs.keys() != entry["outputs"].keys():
            found.append(f"{where}: outputs {[*outputs]}, recorded {[*entry['outputs']]}")
            continue
        changed = [key for key, value in outputs.items() if value != entry["outputs"][key]]
        found += [f"{where}: output {key!r} has other bits" for key in changed]
    return found + [f"{name}, {isa}, {title}: no longer measured" for title in entries]


def read(path: Path) -> Record:
    """The record in a file."""
    content: Record = json.loads(path.read_text())
    return content


def main() -> None:
    """The command line."""
    sys.path[1:1] = [str(ROOT / "tests"), str(ROOT / "examples")]  # what the zoo imports
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("file", type=Path, help="the record")
    parser.add_argument(
        "--networks",
        default="",
        help="names with commas between, 'kept' (those of the test) or 'all'; "
        "to compare, by default those of the record",
    )
    parser.add_argument("--sizes", type=int, default=2, help="to record, of each network at most")
    parser.add_argument("--files", type=Path, help="folder that keeps exported networks")
    args = parser.parse_args()
    names = [name for name in args.networks.split(",") if name]
    if args.networks in ("kept", "all"):
        names = list(KEPT) if args.networks == "kept" else all_names()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.files or Path(temporary)
        if args.command == "record":
            if not names:
                parser.error("record: --networks says which")
            args.file.write_text(json.dumps(record(names, folder, args.sizes), indent=1) + "\n")
        elif not compare(read(args.file), names, folder):
            sys.exit(1)


def compare(recorded: Record, names: Sequence[str], folder: Path) -> bool:
    """Prints how each network compares on each recorded tier; returns True if all are the same."""
    found = 0
    for name in names or recorded["networks"]:
        for isa in recorded["networks"][name]:
            if isa not in _core.isas():
                print(f"{name}: this machine does not have {isa}")
                continue
            lines = differences(recorded, name, isa, folder)
            found += len(lines)
            print("\n".join(lines or [f"{name}, {isa}: the same"]), flush=True)
    print(f"{found} lines of differences" if found else "all the same")
    return not found


if __name__ == "__main__":
    main()
