"""docs/tutorial.md: its blocks run one after the other, and its commands print what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnnrt

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
MASKED = [
    (r"\(\d[\d.]* ms\)", "(TIME)"),  # how long a run took
    (r"[\d,]+ bytes", "SIZE"),  # PNG files depend on the version of zlib
    (r"(packed weights|working memory) .*", "MEMORY"),  # depends on the instruction set
    (r"  100%  \w+  pieces\S+", "IMAGE"),  # their order, where all are sure
]


def blocks() -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)


def masked(command: str, text: str) -> str:
    if " profile " in command:  # all is measured but which layers there are, and what they are
        return "\n".join(sorted({" ".join(line.split()[:2]) for line in text.splitlines()[:11]}))
    for pattern, word in MASKED:
        text = re.sub(pattern, word, text)
    return text.strip()


def test_tutorial(tmp_path: Path) -> None:
    for package in ("torch", "onnxscript", "jinja2", "sklearn", "pycocotools"):
        pytest.importorskip(package)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = os.pathsep.join([str(Path(cnnrt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CNNRT_CACHE": str(tmp_path / "cache")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    commands = 0
    for language, text in blocks():
        if language == "python":
            run("-c", text)
            continue
        assert language == "console"
        command, _, output = text.partition("\n")
        words = command.split()
        assert words[:4] == ["$", "python", "-m", "cnnrt"]
        assert masked(command, run(*words[2:])) == masked(command, output)
        commands += 1
    assert commands == 8
