"""The headless browser sees what it is there to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import Browser

VIEWPORT = '<meta name="viewport" content="width=device-width">'

FLAWS = {
    "127.0.0.1:9/x.png": VIEWPORT + '<img src="http://127.0.0.1:9/x.png" alt="">',
    "other.js": VIEWPORT + '<script src="other.js"></script>',
    "ReferenceError": VIEWPORT + "<script>nothing.at.all</script>",
    "wrong": VIEWPORT + "<script>console.error('wrong')</script>",
    "late": VIEWPORT + "<script>requestAnimationFrame(() => { throw new Error('late') })</script>",
    r"50\d pixels wide": VIEWPORT + '<div style="width: 500px">wide</div>',
    "980 pixels wide": "no viewport",
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_flaws_are_seen(browser: Browser, tmp_path: Path, flaw: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html>{FLAWS[flaw]}")
    with pytest.raises(AssertionError, match=flaw):
        browser.check(page)


def test_a_good_page(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page #1.html"
    picture = '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt="">'
    page.write_text(f"<!doctype html>{VIEWPORT}{picture}")
    browser.check(page)
    assert browser.evaluate("Promise.resolve(document.images.length)") == 1
    browser.screenshot(tmp_path / "page.png", whole=True)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
