"""Records in one table of PostgreSQL: a row each, written once, whatever happens in between.

[measured] COPY is the quickest way in, and fails whole on one row that is there already. So a batch is copied to a
temporary stage, and what is missing is inserted from there: 152,000 rows a second and core, of 186,000 without.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Protocol, Self, Unpack, cast

from msgspec import Meta

from relay.errors import ConfigError
from relay.events import Record
from relay.notices import describe
from relay.secret import Secret
from relay.wire.addresses import Address, read_address
from sinks._remote import QueueOptions, Refused, RemoteSettings, RemoteSink, missing, options_of

__all__ = ["SCHEMA", "PostgresSettings", "PostgresSink", "schema"]

SCHEMA: Final = """\
CREATE TABLE IF NOT EXISTS relay_records (
    epoch    text        NOT NULL,
    "offset" bigint      NOT NULL,
    job      text        NOT NULL,
    seq      bigint      NOT NULL,
    at       timestamptz NOT NULL,
    type     text        NOT NULL,
    level    text        NOT NULL,
    skipped  bigint      NOT NULL DEFAULT 0,
    record   json        NOT NULL,
    PRIMARY KEY (epoch, "offset")
);
CREATE INDEX IF NOT EXISTS relay_records_job ON relay_records (job, seq);
CREATE INDEX IF NOT EXISTS relay_records_at ON relay_records (at);
"""
r"""The table that this sink writes to. Its type is `json`, since `jsonb` refuses a text with `\u0000` in it."""

TABLE: Final = "relay_records"

SCHEMES: Final = {"postgresql": 5432, "postgres": 5432}
OPTIONS: Final = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs")

_COLUMNS: Final = ("epoch", "offset", "job", "seq", "at", "type", "level", "skipped", "record")
_NAMES: Final = ", ".join(f'"{column}"' for column in _COLUMNS)
_STAGE: Final = """\
CREATE TEMPORARY TABLE relay_stage (
    epoch text, "offset" bigint, job text, seq bigint, at timestamptz,
    type text, level text, skipped bigint, record json
) ON COMMIT DELETE ROWS
"""

_TABLE_NAME: Final = r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,50}"
_TABLE_WORDS: Final = 'the name of a table, or "schema.table", of letters, digits and "_"'

_OF_THE_ROW: Final = ("22", "23")
"""Classes of SQLSTATE that are about the row: data that a type refuses, and a constraint that somebody has added."""


class PostgresSettings(RemoteSettings, frozen=True, kw_only=True):
    """One row for each record in *table*, which is there already, unless *create* is true.

    *url*: `postgresql://`, with `sslmode` and the like behind a question mark, as for psql.
    """

    kind: ClassVar[str] = "postgres"

    table: Annotated[
        str,
        Meta(pattern=f"^{_TABLE_NAME}$", description=_TABLE_WORDS),
    ] = TABLE
    create: Annotated[bool, Meta(description="true or false")] = False


class _Connection(Protocol):
    """The part of a connection of asyncpg that is used here; it comes without types."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def copy_records_to_table(
        self, table_name: str, *, records: object, columns: object, schema_name: str
    ) -> str: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


class PostgresSink(RemoteSink[_Connection]):
    """Writes each record as a row of a table, as PostgresSettings says. The table is that of SCHEMA.

    A batch is one transaction. Rows that are there already, by epoch and offset, are left as they are. If the server
    refuses a row of a batch, the rows are written one by one, and those that it accepts are stored. Raises ConfigError
    for an address that cannot be one, and where the client is not installed.
    """

    settings: ClassVar[type[PostgresSettings]] = PostgresSettings

    @classmethod
    def from_settings(cls, settings: PostgresSettings) -> Self:
        """The sink of one table of [[sinks]]."""
        return cls(**options_of(settings))

    def __init__(
        self, url: Secret | str, *, table: str = TABLE, create: bool = False, **options: Unpack[QueueOptions]
    ) -> None:
        try:
            import asyncpg  # type: ignore[import-untyped]
        except ImportError:
            raise missing("postgres") from None
        super().__init__(url, _read, **options)
        if not re.fullmatch(_TABLE_NAME, table):
            raise ConfigError(f"table must be {_TABLE_WORDS}")
        self._dial = partial(
            cast("Callable[..., Awaitable[_Connection]]", cast(Any, asyncpg).connect),
            timeout=self.timeout,
            command_timeout=self.timeout,
        )
        self._create = create
        self._table = table
        values = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
        self._insert_staged = _inserted(table, "SELECT * FROM pg_temp.relay_stage")
        self._insert_one = _inserted(table, f"VALUES ({values})")

    async def _connect(self, address: Address) -> _Connection:
        connection = await self._dial(address.url)
        try:
            if self._create:
                await connection.execute(schema(self._table))
            await connection.execute(_STAGE)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _write(self, connection: _Connection, records: Sequence[Record], skipped: int) -> list[Refused]:
        rows = [_row(record, 0 if number else skipped) for number, record in enumerate(records)]
        try:
            # [measured] asyncpg's own transaction waits for the answer to a ROLLBACK when it is cancelled, 20 s where
            # nothing answers. Here a connection that fails is dropped, and the server rolls back.
            await connection.execute("BEGIN")
            await connection.copy_records_to_table("relay_stage", records=rows, columns=_COLUMNS, schema_name="pg_temp")
            await connection.execute(f"{self._insert_staged}; COMMIT")
        except Exception as error:
            if not _state(error).startswith(_OF_THE_ROW):
                raise
            await connection.execute("ROLLBACK")
            return await self._one_by_one(connection, records, rows)
        return []

    async def _one_by_one(
        self, connection: _Connection, records: Sequence[Record], rows: list[tuple[Any, ...]]
    ) -> list[Refused]:
        refused: list[Refused] = []
        for record, row in zip(records, rows, strict=True):
            try:
                await connection.execute(self._insert_one, *row)
            except Exception as error:
                if not _state(error).startswith(_OF_THE_ROW):
                    raise
                # The server's words may hold the values of the row.
                refused.append(Refused(record, f"the table refuses its row (SQLSTATE {_state(error)})"))
        return refused

    async def _close(self, connection: _Connection, *, broken: bool) -> None:
        if broken:
            connection.terminate()
        else:
            await connection.close()

    def _abandon(self, connection: _Connection) -> None:
        connection.terminate()

    def _reason(self, error: Exception) -> object:
        match _state(error):
            case "42P01":
                return f"there is no table {self._table}; create it as the documentation shows, or set create = true"
            case "42P10":
                return f'the table {self._table} has no primary key (epoch, "offset")'
            case state if state:
                # Details may hold the values of a row; the message names tables, columns and roles.
                return f"{getattr(error, 'message', None) or type(error).__name__} (SQLSTATE {state})"
            case _:
                return describe(error)


def schema(table: str = TABLE) -> str:
    """The statements that make *table*, which may be `schema.table`. They do nothing where it is there."""
    index = table.rpartition(".")[2]
    statements = re.sub(rf"\b{TABLE}_(job|at)\b", rf'"{index}_\1"', SCHEMA)
    return re.sub(rf"\b{TABLE}\b", _quoted(table), statements)


def _read(url: str) -> Address:
    address = read_address(url, SCHEMES, options=OPTIONS)
    if not address.hosts and "host" not in address.options:
        raise ConfigError("url has no host; it should look like postgresql://USER:PASSWORD@HOST/DATABASE")
    return address


def _quoted(table: str) -> str:
    return ".".join(f'"{part}"' for part in table.split("."))


def _inserted(table: str, rows: str) -> str:
    """The statement that inserts *rows*, but for those that are there.

    The keys are named: a row that breaks a rule that somebody has added is not to be left out in silence. The name of a
    table cannot be a parameter; this one has been checked.
    """
    return f'INSERT INTO {_quoted(table)} ({_NAMES}) {rows} ON CONFLICT (epoch, "offset") DO NOTHING'


def _row(record: Record, skipped: int) -> tuple[Any, ...]:
    event, position = record.event, record.position
    body = record.json.decode("ascii")
    return (position.epoch, position.offset, record.job, record.seq, record.at, event.type, event.level, skipped, body)


def _state(error: Exception) -> str:
    """The SQLSTATE of an error of the server, empty for any other."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""
