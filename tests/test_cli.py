"""`python -m cnnrt`: its output, its files, its failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt import cli
from cnnrt.commands import COMMANDS
from cnnrt.formats import read, write_model
from cnnrt.graph import Graph, Node, TensorSpec

EXAMPLES = Path(__file__).parent.parent / "examples"
PREPROCESSING = cnnrt.Preprocessing(
    size=(4, 4), resize=4, interpolation="nearest", channels="L", scale=1 / 255
)
LABELS = ["top", "bottom"]


def halves() -> Graph:
    """Tells which half of 4 x 4 pixels is lighter: the sums of the two, times 10."""
    weight = np.zeros((2, 1, 4, 4), np.float32)
    weight[0, :, :2] = weight[1, :, 2:] = 10
    return Graph(
        [TensorSpec("x", ("batch", 1, 4, 4))],
        [TensorSpec("scores", ("batch", 2))],
        [
            Node("conv", "conv", ["x", "weight"], ["conv"]),
            Node("flatten", "f", ["conv"], ["scores"]),
        ],
        {"weight": weight},
        "halves",
    )


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "halves.bin"
    write_model(path, halves(), preprocessing=PREPROCESSING, labels=LABELS)
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with pictures, one in a subfolder, and a text."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    light = np.zeros((8, 8), np.uint8)
    light[:4] = 255
    Image.fromarray(light).save(folder / "a.png")
    Image.fromarray(light[::-1]).save(folder / "b.JPG")
    Image.fromarray(light).save(folder / "more" / "c.bmp")
    (folder / "readme.txt").write_text("no picture")
    return folder


def run(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command run in this process."""
    try:
        status = cli.main([str(a) for a in arguments])
    except SystemExit as end:  # argparse's way out
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def assert_fails(result: tuple[int, str, str], *texts: Any) -> None:
    """Checks for exit status 1, and one line on stderr with the texts."""
    status, _, err = result
    assert status == 1
    assert err.startswith("cnnrt: error: ")
    assert err.count("\n") == 1
    for text in texts:
        assert str(text) in err


# run --------------------------------------------------------------------------------------------


def test_run(capsys: Any, model: str, photos: Path) -> None:
    status, out, err = run(capsys, "run", model, photos / "a.png", "--threads", 1)
    assert (status, err) == (0, "")
    first, second, third = out.splitlines()
    assert first.startswith(f"{photos / 'a.png'} (")
    assert first.endswith(" ms)")
    assert second.split() == ["100.00%", "top"]
    assert third.split() == ["0.00%", "bottom"]


def test_run_on_folders(capsys: Any, model: str, photos: Path) -> None:
    status, out, err = run(capsys, "run", model, photos, photos / "a.png", "--top", 1)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    names = [Path(line.split(" (")[0]).name for line in lines[::2]]
    assert names == ["a.png", "b.JPG", "c.bmp", "a.png"]
    assert [line.split()[1] for line in lines[1::2]] == ["top", "bottom", "top", "top"]
    (photos / "empty").mkdir()
    assert_fails(run(capsys, "run", model, photos / "empty"), "no images in this folder")


def test_run_json(capsys: Any, model: str, photos: Path) -> None:
    status, out, _ = run(capsys, "run", model, photos / "a.png", photos / "b.JPG", "--json")
    assert status == 0
    first, second = json.loads(out)
    assert first["image"] == str(photos / "a.png")
    assert first["milliseconds"] > 0
    assert first["classes"][0] == {
        "label": "top",
        "index": 0,
        "probability": pytest.approx(1, abs=1e-6),
    }
    assert [c["label"] for c in second["classes"]] == ["bottom", "top"]


def test_run_output(capsys: Any, model: str, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "outputs.npz"
    status, _, _ = run(capsys, "run", model, photos / "a.png", photos / "b.JPG", "--output", path)
    assert status == 0
    with np.load(path) as file:
        assert sorted(file) == ["images", "scores"]
        assert file["images"].tolist() == [str(photos / "a.png"), str(photos / "b.JPG")]
        np.testing.assert_allclose(file["scores"], [[80, 0], [0, 80]], atol=2)
    result = run(capsys, "run", model, photos / "a.png", "--output", tmp_path / "no" / "x.npz")
    assert_fails(result, "No such file")


@pytest.mark.parametrize("as_json", [False, True])
def test_run_without_labels(capsys: Any, photos: Path, tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "plain.bin"
    write_model(path, halves(), preprocessing=PREPROCESSING)
    arguments = ["--json"] if as_json else []
    status, out, _ = run(capsys, "run", path, photos / "a.png", *arguments)
    assert status == 0
    if as_json:
        (document,) = json.loads(out)
        assert document["outputs"]["scores"]["shape"] == [1, 2]
        assert document["outputs"]["scores"]["max"] == pytest.approx(80, abs=1)
    else:
        assert "scores: float32[1, 2], 0 to 80, mean 40" in out


def test_run_fails_in_one_line(capsys: Any, model: str, photos: Path, tmp_path: Path) -> None:
    image = photos / "a.png"
    text = tmp_path / "text.bin"
    text.write_text("This is a story.\n")
    cut = tmp_path / "cut.bin"
    cut.write_bytes(Path(model).read_bytes()[:-7])
    plain = tmp_path / "plain.bin"
    write_model(plain, halves(), labels=LABELS)
    assert_fails(run(capsys, "run", tmp_path / "absent.bin", image), "absent.bin: no such file")
    assert_fails(run(capsys, "run", tmp_path, image), "is a directory")
    assert_fails(run(capsys, "run", text, image), text, "neither a model.bin nor an ONNX file")
    assert_fails(run(capsys, "run", cut, image), cut, "cut off")
    assert_fails(run(capsys, "run", plain, image), "how an image becomes its input")
    assert_fails(run(capsys, "run", model, photos / "readme.txt"), "readme.txt: is not an image")
    assert_fails(run(capsys, "run", model, photos / "absent.png"), "absent.png: no such file")


def test_run_goes_on_after_a_bad_image(capsys: Any, model: str, photos: Path) -> None:
    result = run(capsys, "run", model, photos / "readme.txt", photos / "a.png", "--top", 1)
    assert_fails(result, "readme.txt")
    assert "top" in result[1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "model.bin"],
        ["run", "model.bin", "a.png", "--top", "0"],
        ["run", "model.bin", "a.png", "--threads", "many"],
        ["convert", "model.onnx"],
        ["convert", "model.onnx", "model.bin", "--mean", "1/0"],
        ["convert", "model.onnx", "model.bin", "--interpolation", "best"],
    ],
    ids=" ".join,
)
def test_wrong_usage(capsys: Any, arguments: list[str]) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert err.startswith("usage: ")


def test_version_and_help(capsys: Any) -> None:
    assert run(capsys, "--version")[:2] == (0, f"cnnrt {cnnrt.__version__}\n")
    for command in ((), *((name,) for name in COMMANDS)):
        status, out, _ = run(capsys, *command, "--help")
        assert status == 0
        assert out.startswith("usage: cnnrt")


# convert ----------------------------------------------------------------------------------------


def test_convert(capsys: Any, tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("onnx")
    from test_onnx_import import model as make_onnx
    from test_onnx_import import node

    proto = make_onnx(
        [node("Conv", "x w", "c"), node("Flatten", "c")],
        ("batch", 1, 4, 4),
        constants={"w": halves().constants["weight"]},
    )
    source, target, names = (tmp_path / n for n in ("m.onnx", "m.bin", "names.txt"))
    source.write_bytes(proto.SerializeToString())
    names.write_text("top\nbottom\n\n")
    status, out, _ = run(
        capsys,
        *("convert", source, target, "--labels", names, "--float16"),
        *("--resize", 4, "--channels", "L", "--scale", "1/255", "--mean", 0.5, "--std", 0.25),
    )
    assert status == 0
    assert out.startswith(f"wrote {target}: ")
    document = read(target)
    assert document.labels == LABELS
    assert document.preprocessing == cnnrt.Preprocessing(
        (4, 4), 4, channels="L", scale=1 / 255, mean=(0.5,), std=(0.25,)
    )
    assert "top" in run(capsys, "run", target, photos / "a.png", "--top", 1)[1]

    # A model.bin can be changed likewise; what is not named stays.
    again = tmp_path / "again.bin"
    assert run(capsys, "convert", target, again, "--mean", 0, "--crop", "none")[0] == 0
    changed = read(again)
    assert changed.labels == LABELS
    assert changed.preprocessing == cnnrt.Preprocessing(
        (4, 4), 4, crop=None, channels="L", scale=1 / 255, mean=(0,), std=(0.25,)
    )


def test_convert_fails_in_one_line(capsys: Any, model: str, tmp_path: Path) -> None:
    target = tmp_path / "target.bin"
    (wrong := tmp_path / "wrong.txt").write_text("one\n")
    (binary := tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert_fails(run(capsys, "convert", tmp_path / "no.onnx", target), "no such file")
    assert_fails(run(capsys, "convert", model, target, "--labels", wrong), "1 labels")
    assert_fails(run(capsys, "convert", model, target, "--labels", binary), "not a text file")
    assert_fails(run(capsys, "convert", model, target, "--labels", tmp_path / "x"), "No such file")
    assert_fails(run(capsys, "convert", model, tmp_path / "no" / "x.bin"), "No such file")
    assert run(capsys, "convert", model, target, "--mean", 1, 2)[0] == 2
    assert not target.exists()


# In a process of its own ------------------------------------------------------------------------


def python(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "cnnrt", *(str(a) for a in arguments)]


def environment() -> dict[str, str]:
    """This process's environment, with the package found where it is found here."""
    folder = str(Path(cnnrt.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}


def test_as_a_process(model: str, photos: Path, tmp_path: Path) -> None:
    def status_of(*arguments: Any) -> tuple[int, str, str]:
        done = subprocess.run(
            python(*arguments), capture_output=True, text=True, env=environment(), check=False
        )
        return done.returncode, done.stdout, done.stderr

    status, out, err = status_of("run", model, photos / "a.png")
    assert (status, err) == (0, "")
    assert "100.00%  top" in out
    assert_fails(status_of("run", tmp_path / "absent.bin", photos / "a.png"), "no such file")
    bomb = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(bomb)
    assert_fails(status_of("run", model, bomb), bomb, "144000000 pixels")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_interruption(model: str, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    arguments = ["run", model, *[str(photos / "a.png")] * 20_000, "--output", str(output)]
    with subprocess.Popen(
        python(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == b""
    assert not output.exists()


# The examples -----------------------------------------------------------------------------------


def test_demo(capsys: Any) -> None:
    if not (Path(cnnrt.__file__).parent / "data" / "lenet5.bin").exists():
        pytest.skip("the package's data are not there")
    status, out, err = run(capsys, "demo")
    assert (status, err) == (0, "")
    assert "read by LeNet-5" in out


@pytest.mark.parametrize(
    ("photo", "expected"),
    [("coffee.png", {"espresso"}), ("chelsea.png", {"tabby", "tiger cat", "Egyptian cat"})],
)
def test_photos(capsys: Any, photo: str, expected: set[str]) -> None:
    model = EXAMPLES / "efficientnet_lite0.bin"
    if not model.exists():
        pytest.skip("the example is not there")
    status, out, _ = run(capsys, "run", model, EXAMPLES / photo, "--json")
    assert status == 0
    assert json.loads(out)[0]["classes"][0]["label"] in expected
