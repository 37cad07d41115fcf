"""The site that MkDocs makes of docs/: no warning as it builds, and pages that fit every window."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import browser as chromium

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("material") is None:
        pytest.skip("the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "mkdocs", "build", "--strict", "--no-directory-urls", "--site-dir", folder]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    made = {path.stem for path in site.glob("*.html")} - {"404"}
    assert made == {path.stem for path in (ROOT / "docs").glob("*.md")}


def test_pages_fit_a_desk_and_a_telephone(site: Path, browser: Any) -> None:
    wide = "document.documentElement.scrollWidth"
    for page in sorted(site.glob("*.html")):
        for width in (chromium.DESKTOP, chromium.TELEPHONE):
            browser.open(page, width=width)
            assert browser.evaluate(wide) <= width, f"{page.name} at {width} pixels"
            assert browser.evaluate("document.querySelector('h1').innerText.length") > 0
