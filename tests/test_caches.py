"""Files of the caches that are damaged, strange, another's, or cannot be there at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt.planning import tuning
from cnnrt.storage import cache
from cnnrt.transfer.feature_cache import FeatureCache
from networks import network
from scripts import environment

POSIX = pytest.mark.skipif(os.name != "posix", reason="kinds of files of POSIX")


def model() -> cnnrt.Model:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 8, 3, 3), dtype=np.float32)
    x = np.zeros((1, 8, 12, 12), np.float32)
    return cnnrt.Model(network({"x": x}, {"w": weight}, ("y", "conv", "x w", {"pads": [1] * 4})))


def nested(file: Path) -> None:
    file.write_text("[" * 100_000)


def deep(file: Path) -> None:
    file.write_text("[" * 900 + "]" * 900)


def pipe(file: Path) -> None:
    os.mkfifo(file)


def folder(file: Path) -> None:
    (file / "x").mkdir(parents=True)


def link(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("{}")
    file.symlink_to(other)


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def large(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(tuning.MAX_BYTES + 1)


def anybodys(file: Path) -> None:
    file.write_text("{}")
    file.chmod(0o666)


def not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe{")


def strange(file: Path) -> None:
    file.write_text(json.dumps({"a": [], "b": {"c": 1}, "c": None, "d": "winograd9"}))


KINDS = [nested, deep, pipe, folder, link, endless, large, anybodys, not_text, strange]


@POSIX
@pytest.mark.parametrize("kind", KINDS)
def test_tuning_does_without_such_a_file(
    kind: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    file = tmp_path / "tuning.json"
    kind(file)
    before = file.lstat().st_mode
    assert set(model().tune()) == {"y"}
    if kind in (pipe, folder):  # nothing takes its place
        assert file.lstat().st_mode == before


@POSIX
@pytest.mark.parametrize("kind", KINDS)
def test_features_do_without_such_a_file(
    kind: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    place = tmp_path / "features" / (b"k" * 32).hex()[:32]
    place.mkdir(parents=True)
    kind(place / "0.safetensors")
    kept = FeatureCache(b"k" * 32, (3,), np.dtype(np.float32))
    kept.add(b"i" * 32, np.ones(3, np.float32))
    kept.flush()
    again = FeatureCache(b"k" * 32, (3,), np.dtype(np.float32))
    found = again.get(b"i" * 32)
    assert found is not None and found.tolist() == [1, 1, 1]


def test_an_algorithm_that_the_layer_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 8, 5, 5), dtype=np.float32)  # not for winograd4
    x = np.zeros((1, 8, 12, 12), np.float32)
    graph = network({"x": x}, {"w": weight}, ("y", "conv", "x w", {"pads": [2] * 4}))
    cnnrt.Model(graph).tune()
    file = tmp_path / "tuning.json"
    (key,) = json.loads(file.read_text())
    file.write_text(json.dumps({key: "winograd4"}))
    assert cnnrt.Model(graph).tune()["y"] in ("im2col", "winograd2")


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((2, 32), np.uint8), "features": np.zeros((2, 4), np.float32)},
        {"images": np.zeros((2, 32), np.uint8), "features": np.zeros((2, 3), np.float64)},
        {"images": np.zeros((2, 32), np.uint8), "features": np.zeros((3, 3), np.float32)},
        {"images": np.zeros((2, 31), np.uint8), "features": np.zeros((2, 3), np.float32)},
        {"images": np.zeros((2, 32), np.int8), "features": np.zeros((2, 3), np.float32)},
        {"images": np.zeros((), np.uint8), "features": np.zeros((), np.float32)},
    ],
)
def test_features_of_another_kind(
    arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    place = tmp_path / "features" / (b"k" * 32).hex()[:32]
    cache.write_arrays(place / "0.safetensors", arrays)
    assert FeatureCache(b"k" * 32, (3,), np.dtype(np.float32)).get(bytes(32)) is None


@POSIX
def test_a_file_of_another_user(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    assert cache.read_bytes(file) == b"mine"
    if os.geteuid():
        pytest.skip("only the administrator can give a file away")
    os.chown(file, 54321, 54321)
    assert cache.read_bytes(file) is None


HOMELESS = """
import os, sys
for name in ("HOME", "CNNRT_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
sys.path.insert(0, sys.argv[1])
import pathlib, numpy as np, test_caches
from cnnrt.transfer.feature_cache import FeatureCache

def work():
    assert set(test_caches.model().tune()) == {"y"}
    kept = FeatureCache(b"k" * 32, (3,), np.dtype(np.float32))
    kept.add(b"i" * 32, np.ones(3, np.float32))
    kept.flush()
    assert kept.get(b"i" * 32) is not None

# Modules come on demand, and another user may not read the folder that they come from.
os.environ["CNNRT_CACHE"] = os.path.join(os.getcwd(), "first")
work()
del os.environ["CNNRT_CACHE"]
os.environ.update(a.split("=", 1) for a in sys.argv[2:])
if os.geteuid() == 0 and "HOME" not in os.environ:
    os.setgid(54321)
    os.setuid(54321)  # a user without an entry in the list of users
work()
assert not os.path.exists(".cache") and not os.path.exists("tuning.json")
"""


@POSIX
@pytest.mark.parametrize(
    "variables",
    [
        [],
        ["CNNRT_CACHE="],
        ["HOME="],
        ["HOME=/nonexistent"],
        ["HOME=relative"],
        ["XDG_CACHE_HOME=relative"],
        ["CNNRT_CACHE=/proc/1/cnnrt"],
        ["CNNRT_CACHE=/dev/null"],
        ["CNNRT_CACHE=" + "a" * 5000],
    ],
    ids=lambda v: " ".join(v)[:40] or "nothing",
)
def test_no_home(variables: list[str], tmp_path: Path) -> None:
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS, folder, *variables],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("CNNRT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "cnnrt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "cnnrt"
