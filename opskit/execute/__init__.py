"""Plan → Events: what is planned is recorded, then done, on all hosts of a step at once."""

from opskit.execute.book import ASKED
from opskit.execute.journal import Journal, Sink, Watcher
from opskit.execute.offers import LEFT
from opskit.execute.run import clear, execute, settle, take_back
from opskit.execute.send import Outside
from opskit.execute.stop import Stop

__all__ = [
    "ASKED",
    "LEFT",
    "Journal",
    "Outside",
    "Sink",
    "Stop",
    "Watcher",
    "clear",
    "execute",
    "settle",
    "take_back",
]
