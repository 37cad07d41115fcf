"""The recipes of examples/deploy, as far as they can be checked without their engines."""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.cli import _parser

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "examples" / "deploy"


def serve(arguments: list[str]) -> Any:
    """The options of a command line; a wrong one ends the test."""
    return _parser().parse_args(["serve", *arguments])


def test_the_unit_of_systemd() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "cnnrt.service")
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert program.endswith("python")
    assert arguments[:3] == ["-m", "cnnrt", "serve"]
    options = serve(arguments[3:])
    assert options.host == "127.0.0.1"
    assert float(unit["Service"]["TimeoutStopSec"]) > options.timeout


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("kubernetes.yaml", ("spec", "template", "spec", "containers")),
        ("kserve.yaml", ("spec", "containers")),
    ],
)
def test_containers(name: str, path: tuple[str, ...]) -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((DEPLOY / name).read_text())
    for key in path:
        found = found[key]
    (container,) = found
    options = serve(container["args"])
    ports = {p["containerPort"] for p in container["ports"]}
    assert options.port in ports
    for probe in ("livenessProbe", "readinessProbe"):
        if probe in container:
            assert container[probe]["httpGet"]["path"] in ("/v2/health/live", "/v2/health/ready")
    assert container["securityContext"]["runAsNonRoot"] is True


def test_the_container_file() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.M)[0])
    command = json.loads(re.findall(r"^CMD (.*)$", text, re.M)[0])
    assert serve([*entry[4:], *command]).models == ["/models"]
    assert re.search(r"^USER (?!root)", text, re.M)


def test_the_model_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with a stand-in for the module that Triton gives."""
    backend = types.ModuleType("triton_python_backend_utils")

    class Tensor:
        def __init__(self, name: str, array: np.ndarray) -> None:
            self.name, self.array = name, array

        def as_numpy(self) -> np.ndarray:
            return self.array

    backend.Tensor = Tensor  # type: ignore[attr-defined]
    backend.TritonError = str  # type: ignore[attr-defined]
    backend.InferenceResponse = lambda tensors, error=None: (tensors, error)  # type: ignore[attr-defined]
    backend.get_input_tensor_by_name = lambda request, name: request[name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    names: dict[str, Any] = {}
    exec((DEPLOY / "triton" / "1" / "model.py").read_text(), names)
    config = {
        "input": [{"name": "x"}],
        "output": [{"name": "y"}],
        "parameters": {"model": {"string_value": str(ROOT / "examples" / "lenet5.bin")}},
    }
    model = names["TritonPythonModel"]()
    model.initialize({"model_config": json.dumps(config)})
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    good, bad = model.execute([{"x": Tensor("x", x)}, {"x": Tensor("x", x[..., :9])}])
    ((y,), error) = good
    assert error is None
    assert y.name == "y"
    assert np.array_equal(y.array, cnnrt.load(ROOT / "examples" / "lenet5.bin")(x))
    assert "takes shape" in bad[1]
    text = (DEPLOY / "triton" / "config.pbtxt").read_text()
    assert re.findall(r'name: "(\w)"', text) == ["x", "y"]


@pytest.mark.parametrize("name", ["litserve_app.py", "bentoml_service.py"])
def test_programs_use_what_there_is(name: str) -> None:
    tree = ast.parse((DEPLOY / name).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "cnnrt"
    }
    assert used
    assert used <= set(cnnrt.__all__)
