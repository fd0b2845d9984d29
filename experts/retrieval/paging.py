"""One page of a table that is listed by its `number`, from an id on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.errors import UnknownObject
from experts.retrieval.database import one

if TYPE_CHECKING:
    from experts.retrieval.database import Row, Session
    from experts.retrieval.records import Page


def page_of(
    session: Session, select: str, where: tuple[str, tuple[object, ...]], page: Page, cursor: tuple[str, str]
) -> list[Row]:
    """The rows of a page and, where there is more, one further.

    select: up to WHERE. where: the condition and its values. cursor: the kind of object and the column of its id.
    Raises: UnknownObject: after or before names nothing there.
    """
    condition, values = where
    kind, column = cursor
    newer, older = ("<", ">") if page.newest_first else (">", "<")
    for bound, sign in ((page.after, newer), (page.before, older)):
        if bound is not None:
            at = one(session, f"{select} WHERE {condition} AND {column} = ?", *values, bound)
            if at is None:
                raise UnknownObject(kind, bound)
            condition, values = f"{condition} AND number {sign} ?", (*values, at[0])
    order = "DESC" if page.newest_first else "ASC"
    statement = f"{select} WHERE {condition} ORDER BY number {order} LIMIT ?"
    return list(session.rows(statement, *values, page.limit + 1))
