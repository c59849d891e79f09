"""Statements that return nothing and are run together, by the driver itself.

A statement is compiled once per engine. What SQLAlchemy does for each one that it runs takes
longer than SQLite takes to run it; here it does the transaction, the connection and the errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Insert, Update
from sqlalchemy.engine import Dialect

from assetgen_pipeline.adapters.sql_ledger_engine import driver_errors


class Compiled(NamedTuple):
    """A statement as a driver takes it."""

    text: str
    constants: dict[str, Any]
    names: tuple[str, ...]
    processors: dict[str, Any]
    positional: bool

    def bound(self, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a driver's
        """The driver's parameters."""
        known = self.constants | {
            name: process(values[name]) for name, process in self.processors.items()
        }
        found = [known[name] if name in known else values[name] for name in self.names]
        return found if self.positional else dict(zip(self.names, found, strict=True))


class Statement:
    """An INSERT or UPDATE, or one for each engine; compiled where it is first run."""

    def __init__(self, statement: Insert | Update | Mapping[str, Insert | Update]) -> None:
        """Compile nothing yet."""
        self._statement = statement
        self._compiled: dict[str, Compiled] = {}

    def on(self, dialect: Dialect) -> Compiled:
        """The statement as this engine's driver takes it."""
        found = self._compiled.get(dialect.name)
        if found is None:
            found = self._compiled[dialect.name] = self._compile(dialect)
        return found

    def _compile(self, dialect: Dialect) -> Compiled:
        statement = self._statement
        if isinstance(statement, Mapping):
            statement = statement[dialect.name]
        compiled: Any = statement.compile(dialect=dialect)
        binds = compiled.binds
        constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        found = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for name, bind in binds.items()
        }
        return Compiled(
            text=compiled.string,
            constants=constants,
            names=tuple(compiled.positiontup if compiled.positional else binds),
            processors={
                name: process for name, process in found.items() if process and binds[name].required
            },
            positional=compiled.positional,
        )


class Step(NamedTuple):
    """A statement and how many rows it changes where all is as expected."""

    statement: Statement
    rows: int


def all_change(connection: Connection, steps: Sequence[Step], values: Mapping[str, Any]) -> bool:
    """Run statements on the same values; whether each changed as many rows as expected.

    PostgreSQL gets all of them in one message. SQLite stops at the first that does not.
    """
    with driver_errors(connection) as driver:
        if connection.dialect.name != "postgresql":
            return all(
                send(connection, one.statement, values).rowcount == one.rows for one in steps
            )
        with driver.pipeline():
            sent = [send(connection, one.statement, values) for one in steps]
    return [cursor.rowcount for cursor in sent] == [one.rows for one in steps]


def send(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Hand one statement to the driver; the cursor that will know how many rows it changed."""
    compiled = statement.on(connection.dialect)
    driver: Any = connection.connection.driver_connection
    return driver.cursor().execute(compiled.text, compiled.bound(values))
