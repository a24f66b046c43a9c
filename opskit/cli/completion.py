"""opskit completion: what a shell needs to complete our words."""

import re

import click
from click.shell_completion import get_completion_class

from opskit.cli.call import Call, options
from opskit.cli.group import Command

HELP = {
    "bash": 'eval "$(opskit completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(opskit completion zsh)"    # in ~/.zshrc',
    "fish": "opskit completion fish | source   # in ~/.config/fish/config.fish",
}


def quiet(script: str) -> str:
    """Keep whatever goes wrong off the line that somebody is typing, a Ctrl-C for example."""
    return re.sub(
        r"(_complete (?:\$1|opskit)|commandline -t\) opskit)\)", r"\1 2>/dev/null)", script
    )


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(tuple(HELP)))
@options
def completion(call: Call, shell: str) -> None:
    """Print completion for a shell; put this into its start-up file:

    \b
    eval "$(opskit completion bash)"
    eval "$(opskit completion zsh)"
    opskit completion fish | source
    """
    from opskit.cli.root import root

    kind = get_completion_class(shell)
    assert kind is not None
    script = quiet(kind(root, {}, "opskit", "_OPSKIT_COMPLETE").source())
    call.answer(lambda: script, [{"kind": "completion", "shell": shell, "script": script}])
