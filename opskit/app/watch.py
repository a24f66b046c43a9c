"""Between a run and who watches it: secrets are masked, a watcher's errors are its own."""

from collections.abc import Mapping
from dataclasses import replace
from threading import Lock

from opskit.audit.masking import Masker, Stream
from opskit.execute import Watcher
from opskit.model.event import Chunk, Event
from opskit.model.value import Json, Secret


class Guard:
    """Shows a watcher no secret, and lets it go once it has raised: it can't stop a run."""

    def __init__(self, watch: Watcher, secrets: Mapping[str, Secret]) -> None:
        self._watch: Watcher | None = watch
        self._secrets = list(secrets.values())
        self._masker = Masker.of(self._secrets)
        self._streams: dict[tuple[str, int, str], Stream] = {}
        self._lock = Lock()

    def hide(self, secret: Secret) -> None:
        """Mask one more secret from now on."""
        with self._lock:
            self._secrets.append(secret)
            self._masker = Masker.of(self._secrets)
            self._streams.clear()

    def __call__(self, item: Event | Chunk) -> None:
        watch = self._watch
        if watch is None:
            return
        try:
            if self._masker:
                with self._lock:
                    item = self._event(item) if isinstance(item, Event) else self._chunk(item)
            watch(item)
        except Exception:  # noqa: BLE001 - whatever a watcher does, the run goes on
            self._watch = None

    def _event(self, event: Event) -> Event:
        data = self._masker.mask_json(event.data)
        assert isinstance(data, Mapping)
        shown: Mapping[str, Json] = data
        return replace(event, data=shown)

    def _chunk(self, chunk: Chunk) -> Chunk:
        """Mask output across its pieces: what may be the start of a secret is held back."""
        key = (chunk.key, chunk.attempt, chunk.stream)
        stream = self._streams.setdefault(key, self._masker.stream())
        return replace(chunk, data=stream.feed(chunk.data))
