"""Pages that are made elsewhere, in a browser: no request, no error, no wider than the window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browser import Browser
from cnnrt import cli

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_features(browser: Browser, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("jinja2")
    digit = EXAMPLES / "digits" / "3.png"
    arguments = [EXAMPLES / "lenet5.bin", digit, "--out", tmp_path / "features"]
    assert cli.main(["features", *map(str, arguments)]) == 0
    browser.check(tmp_path / "features" / "index.html")
    assert browser.evaluate("document.images.length") > 0
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
