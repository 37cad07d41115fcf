"""The examples of docs/adding-an-operator.md work."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnrt import Model, lowering, ops
from cnnrt.graph import Graph, Node, TensorSpec

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "adding-an-operator.md"
IMPORTS = """
from typing import Any
import numpy as np
from cnnrt.graph import Array, Node
from cnnrt.lowering import PlanBuilder, lowers
from cnnrt.lowering.elementwise import lower_activation
from cnnrt.ops import register
from cnnrt.ops.activation import Activation
from cnnrt.ops.common import Elementwise, SameType
"""


def code(language: str) -> list[str]:
    """The blocks of the page in a language."""
    text = PAGE.read_text()
    blocks = re.findall(rf"^   ```{language}\n(.*?)^   ```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.fixture
def steps() -> Iterator[list[str]]:
    """The Python of the page, step by step; what it registers is taken away afterwards."""
    yield code("python")
    ops.OPS.pop("hard_tanh", None)
    lowering.LOWERINGS.pop("hard_tanh", None)


def test_the_page(steps: list[str]) -> None:
    definition, lowered = steps
    names: dict[str, object] = {}
    exec(IMPORTS + definition, names)
    node = Node("hard_tanh", "h", ["x"], ["y"], {"high": 0.5})
    ops.complete(node)
    graph = Graph([TensorSpec("x", (2, 5))], [TensorSpec("y", ())], [node], {})
    x = np.linspace(-2, 2, 10, dtype=np.float32).reshape(2, 5)
    by_reference = Model(graph)
    assert "no kernel" in by_reference.describe()
    assert np.array_equal(by_reference(x), np.clip(x, -1, 0.5))
    exec(lowered, names)
    by_kernel = Model(graph)
    assert "no kernel" not in by_kernel.describe()
    assert np.array_equal(by_kernel(x), by_reference(x))


CALLER = """
#include <cstdio>
#include <vector>

#include "kernels/kernel.h"

int main() {
    using namespace cnnrt;
    for (const int64_t size : {1, 15, 16, 17, 4095, 4096, 4097, 9000}) {
        std::vector<float> x(size), y(size + 1, 7.0f);
        for (int64_t i = 0; i < size; ++i) x[i] = static_cast<float>(i % 100 - 50) / 10;
        const uintptr_t spaces[] = {0, reinterpret_cast<uintptr_t>(x.data()),
                                    reinterpret_cast<uintptr_t>(y.data())};
        const Context context{spaces, nullptr, nullptr, false};
        HardTanhArgs args;
        args.x = {1, 0};
        args.y = {2, 0};
        args.size = size;
        args.low = -1.5f;
        args.high = 2.5f;
        const int64_t tasks = portable::hard_tanh_tasks(args);
        for (int64_t task = tasks; task-- > 0;) portable::hard_tanh(args, context, task, task + 1);
        for (int64_t i = 0; i < size; ++i) {
            const float wanted = x[i] < -1.5f ? -1.5f : x[i] > 2.5f ? 2.5f : x[i];
            if (y[i] != wanted) return std::printf("%ld of %ld\\n", long(i), long(size)), 1;
        }
        if (y[size] != 7.0f) return std::printf("beyond %ld\\n", long(size)), 1;
    }
}
"""


def test_the_kernel_of_the_page(tmp_path: Path) -> None:
    """Compiled for the portable tier among the project's own sources, and run."""
    if shutil.which("c++") is None:
        pytest.skip("a C++ compiler is not installed")
    arguments, source = code("cpp")
    shutil.copytree(ROOT / "cpp", tmp_path / "cpp")
    kernels = tmp_path / "cpp" / "kernels"
    with (kernels / "kernels.def").open("r+") as file:
        text = file.read()
        at = re.search(r"^ARGS\(", text, re.MULTILINE)
        assert at
        file.seek(0)
        file.write(text[: at.start()] + arguments + "\n" + text[at.start() :])
    (kernels / "hard_tanh.cpp").write_text(source)
    (tmp_path / "main.cpp").write_text(CALLER)
    options = ["-std=c++20", "-O1", "-Wno-psabi", "-DCNNRT_ISA=portable", "-DCNNRT_ISA_PORTABLE"]
    sources = [kernels / "hard_tanh.cpp", tmp_path / "main.cpp"]
    command = ["c++", *options, f"-I{tmp_path / 'cpp'}", *sources, "-o", tmp_path / "test"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([tmp_path / "test"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
