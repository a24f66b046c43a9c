"""Names of runs: sorted by time, short enough to say, and not mistaken for one another."""

import secrets
import time

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that look alike: 0 o, 1 i l


def new_id(at: float) -> str:
    """Return a name for a run that begins now, as "20261122-081500-k3f9" (UTC)."""
    tail = "".join(secrets.choice(_LETTERS) for _ in range(4))
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(at))}-{tail}"
