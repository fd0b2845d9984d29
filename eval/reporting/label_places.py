"""Where names go in a crowded plot: beside their points, clear of everything drawn, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top

CHAR_WIDTH: Final = 0.56  # of the font's size, in a wide face: the reader's is not known
_BESIDE: Final = ((7, 0), (-7, 0), (0, 9), (0, -9), (7, 9), (-7, 9), (7, -9), (-7, -9), (0, 18), (0, -18))
_CLEAR: Final = 3.0  # around each point


class Place(NamedTuple):
    """Which label, and its offset from its point: from there it runs right, left, or both ways where dx is 0."""

    label: int
    dx: float
    dy: float


def label_places(labels: Sequence[tuple[Point, str]], drawn: Sequence[Point], frame: Box, size: float) -> list[Place]:
    """Place labels in their order, each in the first spot that is free; one without such a spot is left out.

    No label leaves the frame, covers a point of `drawn` or another label. All in one unit, that of the font's size.
    """
    taken = [(x - _CLEAR, y - _CLEAR, x + _CLEAR, y + _CLEAR) for x, y in drawn]
    placed = []
    for i, (at, name) in enumerate(labels):
        for dx, dy, box in _spots(at, len(name), size):
            if _within(box, frame) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                placed.append(Place(i, dx, dy))
                break
    return placed


def _spots(at: Point, chars: int, size: float) -> Iterator[tuple[float, float, Box]]:
    width, half = CHAR_WIDTH * size * chars, 0.55 * size
    for dx, dy in _BESIDE:
        left, middle = at[0] + dx - (width / 2 if dx == 0 else 0 if dx > 0 else width), at[1] + dy
        yield dx, dy, (left, middle - half, left + width, middle + half)


def _within(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
