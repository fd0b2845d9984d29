"""Parquet through pyarrow, which only those who train need: it is imported when a Parquet file is met."""

from __future__ import annotations

from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Final

from experts.errors import ConfigError, InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

BATCH_ROWS: Final = 1024


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Read row by row; NaN, which is how data frames write a gap, becomes None.

    columns: only these. Raises: InvalidConfig: the file cannot be read, is not Parquet or lacks a column.
    ConfigError: pyarrow is not installed.
    """
    pyarrow, parquet = _pyarrow(), _pyarrow("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, columns or (), file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                yield from map(_without_nan, batch.to_pylist(maps_as_pydicts="strict"))
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidConfig(str(path), [ConfigError("file", str(path), f"cannot be read: {error}")]) from error


def write_table(file: IO[bytes], rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows; their mappings become structs. Raises: ConfigError: pyarrow is not installed."""
    pyarrow, parquet = _pyarrow(), _pyarrow("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), file, compression="zstd")


def _pyarrow(module: str = "pyarrow") -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(module, None, "is needed for Parquet: pip install 'coe-gateway[train]'") from error


def _check_columns(path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    missing = [ConfigError("column", name, "is not in the file") for name in wanted if name not in there]
    if missing:
        raise InvalidConfig(str(path), missing)


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - whatever a cell holds
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - only NaN differs from itself
