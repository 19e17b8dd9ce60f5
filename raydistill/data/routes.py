"""How the cells of a column become the places of the teachers that rows go to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydistill.data.checks import did_you_mean, named_few, row_place, setting_of
from raydistill.data.readers import Columns
from raydistill.errors import ConfigError, Fault

__all__ = ["ALL_TEACHERS", "Routed", "Routes", "encode_routes", "route_note"]

ALL_TEACHERS = -1
_MAX_CELLS_NAMED = 12


@dataclass(frozen=True)
class Routes:
    """Which rows go to which teacher.

    Attributes:
        column: Whose cells decide.
        teachers: All of them; a row's route is a place in this order, or -1: all.
        by_cell: Cell to teacher. A cell that is itself a teacher's name need not be here; what leads
            to no teacher is not judged.
        others_to_all: Whether rows with any other cell go to all; else they are a fault.
    """

    column: str
    teachers: tuple[str, ...]
    by_cell: Mapping[str, str]
    others_to_all: bool = False

    def places(self) -> dict[str, int]:
        """Known cell to place."""
        own = {name: place for place, name in enumerate(self.teachers)}
        return own | {cell: own.get(name, ALL_TEACHERS) for cell, name in self.by_cell.items()}


def encode_routes(
    cells: pa.ChunkedArray,
    routes: Routes,
    *,
    path_in_config: str,
    file_name: str,
    place: Callable[[int], str] = row_place,
) -> tuple[NDArray[np.int32], list[Fault]]:
    """Routes of the rows of one file; only distinct values are looked at in Python.

    Args:
        cells: As text; null is read as an empty cell.
        routes: What they mean.
        path_in_config: The subject of faults.
        file_name: Named in faults.
        place: How a row is named in faults, by its number from 0.

    Returns:
        Places of teachers, ``[rows]``, -1: all; and the faults.
    """
    encoded = pc.dictionary_encode(pc.fill_null(cells, "")).combine_chunks()
    values: list[str] = encoded.dictionary.to_pylist()
    places = routes.places()
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    table = np.array([places.get(value, ALL_TEACHERS) for value in values], np.int32)
    unknown = [] if routes.others_to_all else [v for v in values if v not in places]
    if not unknown:
        return table[indices], []
    shown = []
    for value in unknown[:3]:
        rows = np.flatnonzero(indices == values.index(value))
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        shown.append(f"{repr(value) if value else 'an empty cell'} ({place(int(rows[0]))}{more})")
    message = (
        f"must have cells in column {routes.column!r} ({setting_of('route')}) that lead to a teacher: "
        f"{_listed([cell for cell in places if cell not in routes.teachers])}the names of teachers "
        f"({_listed(routes.teachers).rstrip(', ')}), got in {file_name} "
        f"{named_few(shown, len(unknown))}.{did_you_mean(unknown[0], places)} Add them to "
        "ensemble.weighting.routes, or set ensemble.weighting.others to all."
    )
    return table[indices], [Fault(path_in_config, message)]


class Routed:
    """Where the rows of a split go, read file by file.

    Args:
        routes: None: nowhere in particular, and nothing is read.
        path_in_config: The subject of faults.
    """

    def __init__(self, routes: Routes | None, path_in_config: str) -> None:
        self._routes, self._path_in_config = routes, path_in_config
        self._places = [np.empty(0, np.int32)]

    @property
    def roles(self) -> dict[str, str]:
        """The column that is wanted for it, by role."""
        return {} if self._routes is None else {"route": self._routes.column}

    @property
    def places(self) -> NDArray[np.int32]:
        """Places of teachers so far, ``[rows]``; none without routes."""
        return np.concatenate(self._places)

    def read(
        self, columns: Columns, file_name: str, place: Callable[[int], str] = row_place
    ) -> list[Fault]:
        """Add the rows of a file; what is wrong with their routes.

        Args:
            columns: By role.
            file_name: Named in faults.
            place: How a row is named in faults, by its number from 0.
        """
        if self._routes is None:
            return []
        places, faults = encode_routes(
            columns["route"],
            self._routes,
            path_in_config=self._path_in_config,
            file_name=file_name,
            place=place,
        )
        self._places.append(places)
        return faults

    def refuse(self, file_name: str) -> None:
        """Of a file that has no columns.

        Raises:
            ConfigError: Rows go by one.
        """
        if self._routes is not None:
            message = (
                f"must be a file with columns for ensemble.weighting: routing, got {file_name}."
            )
            raise ConfigError.of(self._path_in_config, message)


def route_note(places: NDArray[np.int32], routes: Routes, rows: str = "rows") -> str:
    """How many rows go where: teachers without any, too."""
    shares = [f"{(places == i).sum():,} to {name}" for i, name in enumerate(routes.teachers)]
    shares += [f"{(places == ALL_TEACHERS).sum():,} to all"] if routes.others_to_all else []
    return f"{rows} go by column {routes.column!r}: {', '.join(shares)}."


def _listed(names: Sequence[str]) -> str:
    """Names with a comma behind each; nothing of none."""
    more = len(names) - _MAX_CELLS_NAMED
    shown = "".join(f"{name}, " for name in names[:_MAX_CELLS_NAMED])
    return shown + (f"… ({more} more), " if more > 0 else "")
