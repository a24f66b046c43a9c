"""What a run waits for a person to say."""

from opskit.model.frozen import frozen
from opskit.model.plan import Action
from opskit.model.value import Json


@frozen
class Question:
    """What a run waits for: the action (None: the run as a whole), why, the words, the choices.

    `hosts`: those that fell out, where too many did.
    """

    action: Action | None
    why: str
    text: str
    choices: tuple[str, ...]
    hosts: tuple[str, ...] = ()

    @property
    def data(self) -> dict[str, Json]:
        """What the record says of it."""
        return {
            "why": self.why,
            "question": self.text,
            "choices": list(self.choices),
            **({"hosts": list(self.hosts)} if self.hosts else {}),
        }
