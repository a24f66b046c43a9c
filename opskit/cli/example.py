"""The working example that `opskit init` writes: path → text."""

from collections.abc import Mapping

SETTINGS = """\
# opskit looks for this file here and in the folders above.
inventory: lab/inventory.yaml       # the practice hosts of `opskit lab up`
runbooks: [runbooks]
# store: history.db                 # where runs are recorded; by default in your state directory
"""

INVENTORY = """\
# Your own hosts: put them in here, then `opskit hosts check all -i production`.
opskit: 1
hosts:
  web1: {address: web1.example.com}
  web2: {address: web2.example.com}
groups:
  web: {hosts: [web1, web2]}
connection:
  user: deploy                      # sudo, where a step wants it, must not ask for a password
  # read_user: nobody               # makes a dry run's reads, and can't change anything
"""

RUNBOOK = """\
# yaml-language-server: $schema=../runbook.schema.json
opskit: 1
name: hello
version: 1.0.0
summary: Leave a greeting in a file on every web host, the first host alone
owner: you
params:
  greeting:
    type: string
    pattern: '[ -~]{1,80}'
    default: hello
    help: what to write into the file
hosts: web
batches: [1, 100%]
max_failures: 0
on_failure: undo
steps:
  - name: There is room for it
    run: test -w .
    phase: preflight                # on every host, before the first change anywhere
    effect: read

  - name: Remember the old greeting
    run: test ! -e opskit-hello.txt || cat opskit-hello.txt
    effect: read
    save: before                    # empty the first time

  - name: Leave the greeting
    run: printf '%s\\n' {{ greeting }} > opskit-hello.txt
    undo:
      - name: Put the old greeting back
        run: printf '%s\\n' {{ before }} > opskit-hello.txt
        when: before
      - name: Remove the greeting
        run: rm -f opskit-hello.txt
        when: not before

  - name: It is there
    run: grep -Fxe {{ greeting }} opskit-hello.txt
    effect: read
"""

IGNORE = "/lab/\n"

FILES: Mapping[str, str] = {
    "opskit.yaml": SETTINGS,
    "inventories/production.yaml": INVENTORY,
    "runbooks/hello.yaml": RUNBOOK,
    ".gitignore": IGNORE,
}
SCHEMA = "runbook.schema.json"
NEXT = (
    ("opskit lab up --web 2 --lb 0", "practice hosts on this machine, to try it on"),
    ("opskit plan hello", "what would happen, and on which host; changes nothing"),
    ("opskit run hello", "do it; then: opskit undo last"),
)
