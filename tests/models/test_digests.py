"""A few networks keep their plans and the bits of their outputs, on every tier.

`python tests/models/digests.py record tests/models/digests.json --networks kept --sizes 1` renews
the expected record, for a change that alters it on purpose.
"""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")

import digests  # noqa: E402

RECORD = digests.read(digests.RECORD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the exports."""
    return tmp_path_factory.mktemp("digests")


@pytest.mark.skipif(
    platform.machine() != RECORD["machine"],
    reason=f"the digests are those of {RECORD['machine']}",
)
@pytest.mark.parametrize("name", digests.KEPT)
def test_plans_and_bits_are_those_recorded(name: str, isa: str, folder: Path) -> None:
    found = digests.differences(RECORD, name, isa, folder)
    assert not found, "\n".join(found)


def test_the_record_has_the_networks_of_this_test() -> None:
    assert [*RECORD["networks"]] == [*digests.KEPT]
