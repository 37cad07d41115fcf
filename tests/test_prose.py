"""The English of pages, docstrings and comments, as CONTRIBUTING.md asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

import prose

GENERATED = {"onnx-coverage.md"}
"""Has one sentence that lists every operator that is missing."""


@pytest.mark.parametrize(
    "page", [path for path in prose.pages() if path.name not in GENERATED], ids=lambda p: p.name
)
def test_sentences_of_pages_are_short(page: Path) -> None:
    long = [s for s in prose.sentences_of_page(page) if s.words > prose.MAX_WORDS]
    assert not long, "\n".join(f"{s.at}: {s.words} words: {s.text}" for s in long)


@pytest.mark.parametrize("folder", ["python", "cpp"])
def test_sentences_of_sources_are_short(folder: str) -> None:
    files = [
        p for p in (prose.ROOT / folder).rglob("*") if p.suffix in (".py", ".h", ".cpp", ".def")
    ]
    read = prose.sentences_of_python if folder == "python" else prose.sentences_of_cpp
    long = [s for path in files for s in read(path) if s.words > prose.MAX_WORDS]
    assert not long, "\n".join(f"{s.at}: {s.words} words: {s.text}" for s in long)


def test_docstrings_open_with_no_riddle() -> None:
    files = sorted((prose.ROOT / "python").rglob("*.py"))
    found = [riddle for path in files for riddle in prose.riddles(path)]
    assert not found, "\n".join(found)


def test_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    words = " ".join(["word"] * 30)
    page = tmp_path / "page.md"
    page.write_text(
        f"# {words}\n\nOne two. {words} [three](four five).\n\n    {words} {words}\n\n"
        f"* an item of `{words}`\n  that goes on\n\n| {words} | {words} |\n\n"
        f"```\n{words} {words}\n```\n"
    )
    found = [(s.at, s.words) for s in prose.sentences_of_page(page)]
    assert found == [("page.md:3", 2), ("page.md:3", 31), ("page.md:7", 36)]
    source = tmp_path / "source.py"
    source.write_text(
        f'"""Of two.\n\n{words}.\n"""\nx = 1  # {words} e.g. this\n"""What is x."""\n'
    )
    assert [s.words for s in prose.sentences_of_python(source)] == [2, 30, 3, 32]
    assert list(prose.riddles(source)) == ["source.py:1: Of two.", "source.py:6: What is x."]
    kernel = tmp_path / "kernel.h"
    kernel.write_text(
        f"// {words}\n// and {words}.\n//   a table of {words} and {words}\n"
        "int x;  // beside\n        // it\n// another\n"
    )
    assert [s.words for s in prose.sentences_of_cpp(kernel)] == [61, 2, 1]
