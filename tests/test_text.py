"""Output of the commands, on terminals and in pages and archives, whatever a file contains."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt import pages
from cnnrt.cli import main
from cnnrt.commands.common import print_json
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.storage.text import SafeStream, escaped
from scripts import environment

ESC = "\x1b]0;title\x07\x1b[2J"
UNSAFE = [*map(chr, (*range(32), 127, 128, 155, 159, 0x202E, 0x2028, 0x2066, 0xD800, 0xDCFF))]


@pytest.mark.parametrize("character", UNSAFE, ids=lambda c: f"{ord(c):04x}")
def test_escapes_are_those_of_json(character: str) -> None:
    text = f"a{character}b"
    shown = escaped(text)
    assert shown == f"a\\u{ord(character):04x}b"
    assert json.loads(f'"{shown}"') == text
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text


def test_other_text_stays() -> None:
    for text in ("", "plain", "Ünïcode", "日本語", "👩‍🔬", "a\\u001b", "עברית"):
        assert escaped(text) == text
    assert escaped("two\nlines\tand") == "two\\u000alines\\u0009and"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_streams_of_other_encodings(encoding: str) -> None:
    below = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    document = {"name": "é 日本 👩‍🔬 \udcff\x1b"}
    print(json.dumps(document, ensure_ascii=False), file=SafeStream(below))
    below.flush()
    printed = below.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert json.loads(printed) == document
    assert "\x1b" not in printed


def network(output: str = "y", shape: tuple[Any, ...] = ("n", 3, 8, 8), **more: Any) -> Graph:
    node = Node("relu", "r", ["x"], [output], {})
    return Graph(
        [TensorSpec("x", shape)], [TensorSpec(output, ())], [node], {}, more.get("name", "net")
    )


def write(path: Path, graph: Graph, labels: list[str] | None = None) -> str:
    sizes = cnnrt.Preprocessing(size=(8, 8), resize=(8, 8))
    write_model(path, graph, preprocessing=sizes, labels=labels)
    return str(path)


def command(*arguments: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cnnrt", *map(str, arguments)],
        capture_output=True,
        env=environment(**variables),
        check=False,
    )


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes")
@pytest.mark.parametrize("lang", ["C.UTF-8", "POSIX"])
def test_no_command_prints_what_a_terminal_obeys(tmp_path: Path, lang: str) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\x1b[2J"
    os.mkdir(folder)  # noqa: PTH102  (bytes)
    model = write(Path(os.fsdecode(folder + b"/m.bin")), network(name=ESC), labels=["a"] * 192)
    good, bad = (Path(os.fsdecode(folder + b"/\x1b]0;x\x07" + n)) for n in (b"1.png", b"2.png"))
    Image.new("RGB", (9, 9)).save(good)
    bad.write_bytes(b"junk")
    out = tmp_path / "out"
    for arguments in (
        ("run", model, good, bad),
        ("run", "--json", model, os.fsdecode(folder)),
        ("summary", model),
        ("summary", "--json", model),
        ("summary", "--html", out, model),
        ("profile", "--seconds", "0.01", model),
        ("profile", "--seconds", "0.01", "--html", out, model),
        ("view", "-o", out, model),
        ("check", model),
        ("convert", model, os.fsdecode(folder + b"/n.bin")),
        ("compile", model, "-o", os.fsdecode(folder + b"/c.bin")),
        ("features", model, good, "--out", os.fsdecode(folder + b"/out")),
        ("summary", os.fsdecode(folder + b"/absent")),
        ("summary", ESC),
        ("run", model, good, f"--{ESC}"),
    ):
        done = command(*arguments, LC_ALL=lang)
        printed = done.stdout + done.stderr
        assert b"\x1b" not in printed and b"\x07" not in printed, arguments
        assert b"Traceback" not in printed, printed
        if out.exists():
            assert b"\x1b" not in out.read_bytes(), arguments
            out.unlink()


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes")
def test_names_of_any_bytes_come_back_from_json(tmp_path: Path) -> None:
    model = write(tmp_path / "m.bin", network(), labels=["a"] * 192)
    name = os.fsencode(tmp_path) + b"/\xff\xfe \x1b\\u001b.png"
    with open(name, "wb") as file:  # noqa: PTH123  (bytes)
        Image.new("RGB", (9, 9)).save(file, "PNG")
    done = command("run", "--json", model, os.fsdecode(name))
    assert os.fsencode(json.loads(done.stdout)[0]["image"]) == name


def test_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), float("inf"), 1.5], "b": ("x", None)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": ["x", None]}


# Outputs -----------------------------------------------------------------------------------------

NAMES = {
    "file": "file",
    "allow_pickle": "allow_pickle",
    "a/b:0": "a/b:0",
    "images": "images_",
    "../../up": "up",
    "/root": "root",
    "c:\\x\\..\\y": "c:/x/y",
    "x.npy": "x",
    "..": "output",
    "日本": "日本",
}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_any_name_are_saved(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write(tmp_path / "m.bin", network(name))
    image, saved = tmp_path / "i.png", tmp_path / "o.npz"
    Image.new("RGB", (9, 9), "white").save(image)
    assert main(["run", model, str(image), "--output", str(saved)]) == 0
    with np.load(saved) as arrays:
        assert set(arrays.files) == {"images", NAMES[name]}
        assert arrays["images"].tolist() == [str(image)]
        assert arrays[NAMES[name]].shape == (1, 3, 8, 8)
    said = capsys.readouterr().err
    assert (f"the output {name} is saved as {NAMES[name]}" in said) == (name != NAMES[name])


def empty() -> Graph:
    ends = {"starts": np.array([0]), "ends": np.array([0]), "axes": np.array([1])}
    node = Node("slice", "s", ["x", *ends], ["y"])
    return Graph([TensorSpec("x", ("n", 3, 8, 8))], [TensorSpec("y", ())], [node], ends)


def test_an_empty_output_has_no_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "m.bin", empty(), labels=["a"])
    image = tmp_path / "i.png"
    Image.new("RGB", (9, 9)).save(image)
    assert cnnrt.load(path).classify(image) == []
    assert main(["run", "--json", path, str(image)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["classes"] == []


def test_outputs_of_changing_sizes_are_saved_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cnnrt.commands.run import Result, _save

    saved = tmp_path / "o.npz"
    results = [Result(f"{n}.png", 1.0, {"boxes": np.ones((1, n, 4))}, None) for n in (2, 3)]
    _save(results, str(saved))
    with np.load(saved) as arrays:
        assert {k: arrays[k].shape for k in arrays.files} == {
            "images": (2,),
            "boxes.0": (1, 2, 4),
            "boxes.1": (1, 3, 4),
        }
    assert "boxes of image 1 is saved as boxes.1" in capsys.readouterr().err


def test_pages_hold_no_control_codes(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "page.html"
    summary = cnnrt.load(write(tmp_path / "m.bin", network())).summary((1, 3, 8, 8))
    pages.write(page, "summary.html", title=f"a\udcff{ESC}<b>", summary=summary, largest=1)
    text = page.read_text(encoding="utf-8")
    assert "a\\udcff\\u001b]0;title\\u0007\\u001b[2J&lt;b&gt;" in text
