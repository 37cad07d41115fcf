"""Fixtures of the whole suite: instruction-set tiers, thread counts and seeded random arrays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

import browser as chromium
from checks import Random
from cnnrt import _core
from scripts import environment


def pytest_configure() -> None:
    """Takes SIGINT, which a shell's background jobs ignore, and with them their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--scoreboard",
        action="store_true",
        help="write what tests/models measures into docs/networks.md",
    )


def tiers() -> list[str]:
    """The tiers to test: all that this machine has, or the one that CNNRT_ISA names."""
    forced = os.environ.get("CNNRT_ISA")
    return [forced] if forced else list(_core.isas())


@pytest.fixture(params=tiers())
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction-set tier of this machine."""
    return str(request.param)


def tiers_and_overlays() -> list[str]:
    """The tiers, and each without its overlays: `avx512`, `avx512+novbmi`, `avx512+novnni`."""
    names = []
    for isa in tiers():
        overlays = [] if "+" in isa else _core.overlays(isa)
        names += [isa, *(f"{isa}+no{overlay}" for overlay in reversed(overlays))]
    return names


@pytest.fixture(params=tiers_and_overlays())
def isa_and_overlays(request: pytest.FixtureRequest) -> str:
    """Every compilation of the integer kernels that this machine runs."""
    return str(request.param)


@pytest.fixture(params=[1, 2], ids=["1thread", "2threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="session")
def no_openmp() -> str:
    """Why a new process cannot run models on an OpenMP runtime; empty if it can."""
    command = [sys.executable, "-c", "import cnnrt; cnnrt.set_threading('openmp')"]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    return done.stderr.strip().rpartition("\n")[2]


@pytest.fixture(params=["pool", "openmp"])
def threading(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, no_openmp: str
) -> str:
    """Both kinds of threads: the default of models that are loaded, and of scripts that are run."""
    if request.param == "openmp" and no_openmp:
        pytest.skip(no_openmp)
    monkeypatch.setenv("CNNRT_THREADING", request.param)
    return str(request.param)


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Float32 arrays from a normal distribution, seeded by the test's function."""
    seed = zlib.crc32(request.node.originalname.encode())
    generator = np.random.default_rng(seed)
    return lambda *shape: generator.standard_normal(shape, dtype=np.float32)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """A headless Chromium, shared by all tests of HTML pages."""
    program = chromium.find()
    if program is None or os.name != "posix":
        pytest.skip("Chromium is not installed")
    shared = chromium.Browser(program, tmp_path_factory.mktemp("chromium"))
    yield shared
    shared.close()
