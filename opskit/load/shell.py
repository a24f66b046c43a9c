"""Shell text that calls itself a read: does it write?"""

from collections.abc import Iterator


def writing(text: str) -> Iterator[tuple[int, str]]:
    yield from ()
