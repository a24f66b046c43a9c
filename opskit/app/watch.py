"""Between a run and who watches it: secrets are masked, a watcher's errors are its own."""

from collections.abc import Mapping
from dataclasses import replace
from threading import Lock
from typing import Literal

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
            for shown in self._masked(item) if self._masker else [item]:
                watch(shown)
        except Exception:  # noqa: BLE001 - whatever a watcher does, the run goes on
            self._watch = None

    def _masked(self, item: Event | Chunk) -> list[Event | Chunk]:
        with self._lock:
            if isinstance(item, Chunk):
                return [self._chunk(item)]
            return [*self._rest(item), self._event(item)]

    def _rest(self, event: Event) -> list[Chunk]:
        """Show, before a step ends, what was held back as the possible start of a secret."""
        if event.kind != "step ended":
            return []
        names: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
        held = [(name, self._streams.pop((event.key, event.attempt, name), None)) for name in names]
        return [
            Chunk(key=event.key, host=event.host, attempt=event.attempt, stream=name, data=data)
            for name, stream in held
            if stream is not None and (data := stream.finish())
        ]

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
