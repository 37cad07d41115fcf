"""Parts of a compiled file besides the model: packed weights, and the algorithms they are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..cost import ALGORITHMS
from ..graph import Array
from ..storage import validate


class Compiled(NamedTuple):
    """Packed weights by their names in the file, and the settings that they depend on."""

    isa: str
    """The instruction-set tier of the machine that wrote it. Its packed weights serve every tier;
    another one may choose other algorithms, and packs what they need."""
    algorithms: dict[str, str]
    """Algorithms that were requested, or found by tuning, by node."""
    weights: Mapping[str, Array]
    packing: int
    """The value of `packed.PACKING` in the version that wrote the file."""

    def algorithms_with(self, requested: str | Mapping[str, str]) -> str | Mapping[str, str]:
        """The algorithms of a model of this file, with those that its caller requests."""
        if isinstance(requested, str):
            return self.algorithms if requested == "auto" else requested
        return {**self.algorithms, **requested}

    def to_json(self) -> dict[str, Any]:
        return {"packing": self.packing, "isa": self.isa, "algorithms": self.algorithms}

    @staticmethod
    def from_json(document: Any, at: str, weights: Mapping[str, Array]) -> Compiled:
        """
        Raises:
            FormatError: the document is not one that `to_json` writes.
        """
        table = validate.record(document, at, "packing isa algorithms")
        return Compiled(
            isa=validate.name(table["isa"], f"{at}: isa"),
            algorithms=validate.mapping(
                table["algorithms"],
                f"{at}: algorithms",
                lambda value, place: validate.choice(value, place, ALGORITHMS),
            ),
            weights=weights,
            packing=validate.integer(table["packing"], f"{at}: packing", 1, 10**6),
        )
