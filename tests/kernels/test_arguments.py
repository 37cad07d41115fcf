"""The arguments of kernels as the core takes them: by name, each checked."""

from __future__ import annotations

import re

import pytest

from cnnrt import _core


def test_lists_from_the_core() -> None:
    assert _core.kernels["softmax"] == ("x", "y", "outer", "axis", "inner", "log")
    assert _core.enums["pool"] == ("max", "average")
    assert _core.activations[:3] == ("none", "relu", "clip")
    for fields in _core.kernels.values():
        assert len(set(fields)) == len(fields)
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in fields)


def test_unknown_names_are_refused(isa: str) -> None:
    plan = _core.Plan(isa)
    with pytest.raises(ValueError, match="no kernel 'soft'"):
        plan.add("soft", {})
    with pytest.raises(TypeError, match="kernel 'softmax' has no field 'depth'"):
        plan.add("softmax", {"axis": 3, "depth": 4})
    with pytest.raises(ValueError, match="Pool has no 'median'; expected one of max, average"):
        plan.add("pool", {"mode": "median"})
    with pytest.raises(ValueError, match="no element type 'float8'"):
        plan.add("convert", {"from": "float8"})
    with pytest.raises(ValueError, match=r"Activation has no 'swish'; expected one of .*acos$"):
        plan.add("conv", {"epilogue": ("swish", 0.0, 0.0)})
    with pytest.raises(TypeError, match="field 'axis' has a value of the wrong type"):
        plan.add("softmax", {"axis": "three"})
    with pytest.raises(ValueError, match="more than 8 axes"):
        plan.add("copy", {"shape": [1] * 9})
    assert len(plan) == 0
