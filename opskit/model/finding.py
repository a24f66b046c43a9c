"""What is known of a matter that a person is to decide."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from opskit.model.frozen import frozen
from opskit.model.value import Json

Source = Literal["record", "output", "host", "done_when", "dest"]


@frozen
class Finding:
    """One thing that is known, and where from: the record, or somebody who was asked just now.

    `output` is what the action printed last, `host` what its host says of it, `done_when` what the
    step's own probe says, `dest` what stands where an upload would go. `data` is for programs.
    """

    source: Source
    says: str = ""
    host: str = ""
    lines: tuple[str, ...] = ()
    data: Mapping[str, Json] = field(default_factory=dict)
