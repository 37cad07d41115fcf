"""`import cnnrt` is quick, and every public name is there when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cnnrt


def test_only_errors_are_imported_at_once() -> None:
    code = (
        "import sys, cnnrt\n"
        "loaded = {name for name in sys.modules if name.startswith('cnnrt.')}\n"
        "assert loaded == {'cnnrt.errors'}, loaded\n"
        "assert not {'importlib.metadata', 'socket', 'numpy', 'inspect'} & set(sys.modules)\n"
        "assert callable(cnnrt.load) and 'cnnrt._core' in sys.modules\n"
        "assert set(cnnrt.__all__) | {'__version__'} <= set(dir(cnnrt))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_all_names_are_there() -> None:
    for name in (*cnnrt.__all__, "__version__"):
        assert getattr(cnnrt, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = cnnrt.absent  # type: ignore[attr-defined]
