"""The server and we cut the same texts into the same statements."""

import random
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import pq

from opskit.render.sql import statements
from tests.support.postgres import Server

PIECES = [
    "SELECT ", "1 ", "; ", "1;", "';' ", "'a''b;' ", "'' ", "'\\' ", "e'\\\n;'", "E'\\';' ",
    "E'\\\\' ", "E'a'\n'\\';' ", "'a'\n'b;' ", "'a' 'b'", "U&'\\0061;' ", "B'1' ", "N';' ",
    '"x;" ', '"a""b;" ', "-- c;\n", "-- c;\r", "/* ; */ ", "/* /* ; */ ; */ ", "$$;$$ ",
    "$a$;$$;$a$ ", "$a$ $b$;$b$ $a$ ", "$_$;$_$ ", "$é$;$é$ ", "a$$b$$ ;", "x$y$ ", "|| ", ", ",
    "AS ", "b ", "é ", "e", "(", "::text ", "- ", "-", "*", "/", "+ ", "1e5 ", "\n", "\f", "\u00a0",
]  # fmt: skip


def counted(connection: "psycopg.Connection[object]", text: str) -> int | None:
    """Return how many statements the server finds in a text; None where it refuses it."""
    connection.pgconn.send_query(text.encode())
    found = []
    while (result := connection.pgconn.get_result()) is not None:
        found.append(result.status)
    if pq.ExecStatus.FATAL_ERROR in found:
        return None
    return len([status for status in found if status != pq.ExecStatus.EMPTY_QUERY])


def texts(seed: int, count: int) -> Iterator[str]:
    chance = random.Random(seed)
    for _ in range(count):
        yield "SELECT " + "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 9)))


def compared(server: Server, seed: int, count: int) -> int:
    """Return how many of so many texts the server takes; all of them must be cut alike."""
    taken = 0
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for text in texts(seed, count):
            there = counted(connection, text)
            if there is not None:
                taken += 1
                assert len(statements(text)) == there, repr(text)
    return taken


@pytest.mark.acceptance
def test_random_texts_are_cut_as_the_server_cuts_them(postgres: Server) -> None:
    assert compared(postgres, 1, 4000) > 300


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_random_texts_are_cut_as_the_server_cuts_them(postgres: Server, seed: int) -> None:
    assert compared(postgres, seed, 60_000) > 5000
