"""The project's pages: code that runs, links that lead somewhere, complete lists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import api_page
import cnnrt
import prose
from cnnrt.cli import _parser

ROOT = Path(__file__).parent.parent
EXECUTED = (
    *("README.md", "docs/from-pytorch.md", "docs/lessons.md", "docs/onnxruntime.md"),
    *("docs/serving.md", "docs/scaling.md"),
)
"""Pages whose Python blocks are one program each; the tutorial has a test of its own."""
ELSEWHERE = {
    "docs/tutorial.md": "test_tutorial.py runs its blocks and commands one after the other",
    "docs/adding-an-operator.md": "test_adding_an_operator.py applies it to the sources",
    "docs/detection.md": "test_detection_page.py gives it a network, and runs it",
    "docs/format.md": "its reader and writer are run by test_formats.py",
    "docs/api.md": "signatures, no program; test_reference_has_every_public_name compares them",
    "docs/quantization.md": "its photos are missing; test_quantization.py does the same",
    "docs/real-files.md": "it needs files that are downloaded",
    "CONTRIBUTING.md": "commands of developers, which .ci runs",
    "HACKING.md": "a map",
}
"""Pages whose code another test runs, or that have none to run."""


@pytest.mark.parametrize("name", EXECUTED)
def test_code_runs(name: str, tmp_path: Path) -> None:
    if "torch" in name or "lessons" in name:
        for package in ("torch", "onnxscript"):
            pytest.importorskip(package)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(), re.M | re.S)
    assert blocks
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = os.pathsep.join([str(Path(cnnrt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "CNNRT_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_page_has_code_that_nothing_runs() -> None:
    for page in prose.pages():
        name = str(page.relative_to(ROOT))
        if re.search(r"^```python", page.read_text(), re.M):
            assert name in EXECUTED or name in ELSEWHERE, f"{name}: which test runs its code?"


def commands() -> list[tuple[str, str]]:
    """Page and text of every command of cnnrt that a page shows."""
    found = []
    for page in prose.pages():
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?:    |\$ )(?:python -m )?(cnnrt [a-z]+ .*)$", text, re.M):
            found.append((page.name, re.split(r"\s#", line)[0].split(" && ")[0].strip()))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_those_of_the_command_line(page: str, line: str) -> None:
    """Every option that a page shows is one that there is."""
    try:
        _parser().parse_args(shlex.split(line)[1:])
    except SystemExit:
        pytest.fail(f"{page}: {line}")


GRADES = {"README.md": 10, "docs/tutorial.md": 10, "docs/lessons.md": 10, "docs/serving.md": 10}
"""School years after which a page can be read with ease, at most."""


@pytest.mark.parametrize("name", GRADES)
def test_pages_are_easy_to_read(name: str) -> None:
    textstat = pytest.importorskip("textstat")
    sentences = [s for s in prose.sentences_of_page(ROOT / name) if s.words >= 3]
    # Code counts as one word, and every sentence ends in a full stop.
    text = " ".join(re.sub(r"`[^`]*`", "code", s.text).rstrip(" :;.") + "." for s in sentences)
    assert textstat.flesch_kincaid_grade(text) <= GRADES[name]
    assert textstat.automated_readability_index(text) <= GRADES[name]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", prose.pages(), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = target[0] or target[1]
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_navigation_of_the_site_is_complete() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.M)) == sorted(
        path.name for path in (ROOT / "docs").glob("*.md")
    )


def test_reference_has_every_public_name() -> None:
    named = {e for entries in api_page.SECTIONS.values() for e in entries if isinstance(e, str)}
    assert named == set(cnnrt.__all__)
    assert api_page.page() == api_page.PAGE.read_text(), "write it anew: python tests/api_page.py"


def test_the_map_is_that_of_the_sources() -> None:
    rooms, _, moves = (ROOT / "HACKING.md").read_text().partition("## Old and new paths")
    rows = [line.split("|")[1] for line in rooms.splitlines() if line.startswith("| `")]
    named = [path.rstrip("/") for row in rows for path in re.findall(r"`([^`]+)`", row)]
    assert [path for path in named if not (ROOT / path).exists()] == []
    package = ROOT / "python" / "cnnrt"
    sources = [*package.iterdir(), *(ROOT / "cpp").iterdir()]
    missing = [
        str(path.relative_to(ROOT))
        for path in sources
        if not path.name.startswith("_")
        and path.name != "py.typed"
        and str(path.relative_to(ROOT)) not in named
    ]
    assert missing == []
    for line in moves.splitlines():
        if line.startswith("| `"):
            old, new = (re.findall(r"`([^`]+)`", cell)[0] for cell in line.split("|")[1:3])
            assert not (ROOT / old).is_file(), old
            assert (ROOT / new).exists(), new


def test_versions_agree() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M) == [version]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{version}]" in changelog or f"The first release will be {version}." in changelog
