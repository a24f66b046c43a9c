"""`keys`: look at a set of keys of a Redis server, or remove it so that it can be put back.

Plan sees to it that the argument `server` is there, and names one of the inventory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePath

from opskit.errors import InputError
from opskit.model.keys import Keys, Windows
from opskit.model.problem import Problem
from opskit.model.runbook import Effect, Step
from opskit.model.value import Json
from opskit.steps import globs, limits
from opskit.steps.base import (
    Key,
    Scope,
    Value,
    a_flag,
    a_number,
    a_word,
    an_amount,
    is_template,
    mapping,
    one_of,
    problem,
    refuse,
    texts,
)

DEEDS = ("show", "remove")
READS = ("show",)
LIBRARIES = ("plain", "drf", "django-ratelimit", "flask-limiter")
USUAL, MOST = 100_000, 2_000_000
"""So many keys are acted on at once at most for an override alone; and where `max_keys` asks for
more, whatever it says.
"""
SUMMARY = (
    "Look at a set of keys of a Redis server, or remove it: exact keys, all that fit a pattern, or "
    "the counters of a rate limit as a library names them. What is removed is kept before, and "
    "opskit puts it back by itself when the run is undone; not so with `archive: false`, which is "
    "for a cache that the application fills again."
)
KEYS = (
    Key(
        "do",
        "enum",
        required=True,
        choices=DEEDS,
        reads=READS,
        help="`show`: list them, with their counts and ends; `remove`: exactly those that are "
        "listed then, once. None at all is a failure of both",
    ),
    Key("server", "text", help="its name in the inventory; needed where that has several"),
    Key("keys", "list", help="exact keys; what comes to nothing is passed over"),
    Key(
        "pattern",
        "glob",
        help="instead: all keys that fit it, `team:{{ slug }}:*`; what an expression comes to "
        "stands for itself, unless `| raw` says that it is a pattern",
    ),
    Key(
        "library",
        "enum",
        choices=LIBRARIES,
        default="plain",
        help="instead: counters as this library names them, of `user`, of `ip`, or `all`",
    ),
    Key("user", "text", help="the user whose counters are meant, as the application names him"),
    Key(
        "ip",
        "text",
        help="the address, a chain of proxies with commas between, or a network of at most 256 "
        "addresses",
    ),
    Key("all", "bool", default=False, help="every counter of the library (and of `scopes`)"),
    Key("scopes", "list", help="of drf; without it " + ", ".join(limits.SCOPES)),
    Key("group", "text", help="of django-ratelimit: the group of one identity's counter"),
    Key("counters", "text", default="rl:", help="of django-ratelimit: its RATELIMIT_CACHE_PREFIX"),
    Key(
        "methods",
        "text",
        default="",
        help="of django-ratelimit: the HTTP methods that are counted together, as `GETPOST`",
    ),
    Key(
        "rate",
        "text",
        help="what is allowed, `5/m`: tells who is blocked; django-ratelimit needs it",
    ),
    Key("rates", "map", help="of drf: scope → rate, `100/hour`"),
    Key(
        "prefix",
        "text",
        help="what the cache puts before each key; without it `:1:` for the Django libraries, "
        "nothing for others",
    ),
    Key(
        "allow",
        "list",
        help="with `keys` and `pattern`: the beginnings that a key may have; nothing else is "
        "touched",
    ),
    Key(
        "max_keys",
        "int",
        default=1000,
        minimum=1,
        help=f"more than this are refused; with an `override`, more than {USUAL:,}, unless more is "
        f"said here; more than {MOST:,} always are",
    ),
    Key(
        "max_share",
        "number",
        default=20,
        minimum=0,
        help="of a pattern or `all`: more of all keys than this is refused; percent",
    ),
    Key("override", "text", default="", help="a reason for which more than that may be removed"),
    Key(
        "digest",
        "text",
        default="",
        help="the digest that `show` has told: a set of other names is refused",
    ),
    Key(
        "archive",
        "bool",
        default=True,
        help="of keys and patterns: `false` keeps the names of what is removed and no values; that "
        "is many times quicker, and there is no undo",
    ),
    Key(
        "evidence",
        "text",
        help="the folder in which each removal gets one of its own, a whole path; without it "
        "`evidence` beside the local record",
    ),
)  # fmt: skip
MAIN = None
EFFECT: Effect = "change"
SCOPE: Scope = "controller"


def check(step: Step) -> Iterable[Problem]:
    yield from refuse(step, "done_when", "creates", "unless", "stdin", "cwd", "sudo", "secrets")
    yield from refuse(step, "silent")
    do = str(step.args.get("do", ""))
    if do in DEEDS and (step.effect == "read") != (do in READS):
        told = f"`{do}` {'changes nothing' if do in READS else 'changes something'}"
        yield problem(step, "effect", told, "take `effect` out")
    if step.undo:
        told = "opskit puts back by itself what it has removed"
        yield problem(step, "undo", told, "take it out, or write undo: []")
    if step.save is not None and step.save.secret:
        yield problem(step, "save", "this returns no secret", "take `secret` out")
    library = step.args.get("library", "plain")
    if not is_template(library):
        yield from _meant(step, str(library))
    for key in ("keys", "allow"):
        for one in _listed(step.args.get(key)):
            wrong = globs.unfit_prefix(one) if key == "allow" else globs.unwritten(one)
            if one and not is_template(one) and wrong:
                yield problem(step, key, wrong, "write what is meant")


def _listed(value: Json) -> list[str]:
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else []


_OF: Mapping[str, tuple[str, ...]] = {
    "plain": ("keys", "pattern", "allow", "archive"),
    "drf": ("user", "ip", "all", "scopes", "rates"),
    "django-ratelimit": ("user", "ip", "all", "group", "counters", "methods"),
    "flask-limiter": ("user", "ip", "all"),
}


def _meant(step: Step, library: str) -> Iterable[Problem]:
    """Check that what is written is of the library."""
    known = _OF.get(library, ())
    foreign = {key for keys in _OF.values() for key in keys} - set(known)
    for key in sorted(foreign & step.args.keys()):
        if f"{step.kind}.{key}" in step.places:
            told = f"`{key}` means nothing with library: {library}"
            yield problem(step, key, told, f"take `{key}` out")
    if library == "plain" and not {"keys", "pattern"} & step.args.keys():
        yield problem(step, "do", "it does not say which keys", "add keys: […] or pattern: …")
    if library == "plain" and "allow" not in step.args:
        told = "it does not say which keys may be touched at all"
        yield problem(step, "do", told, "add allow: [BEGINNING], such as [':1:team:']")


class _WrongError(Exception):
    """What is asked for names no set of keys that may be acted on."""

    def __init__(self, key: str, what: str, write: str = "") -> None:
        super().__init__(what)
        self.key = key
        if write:
            self.what, self.write = what, write
        else:
            self.what, _, self.write = what.partition(" → ")


def work(args: Mapping[str, Value], step: Step) -> Keys:
    """Say which keys are meant; refuse what names none, or far too many."""
    try:
        return _work(args, step)
    except _WrongError as error:
        place = str(step.places.get(f"{step.kind}.{error.key}", step.place))
        hint = error.write or "what is meant; docs/how-to/rate-limits.md says what is refused"
        raise InputError(error.what, where=place, hint=hint) from None


def _work(args: Mapping[str, Value], step: Step) -> Keys:
    do = one_of(args["do"], step, "do", DEEDS)
    most, share = an_amount(args["max_keys"], step, "max_keys"), args["max_share"]
    part = a_number(share, step, "max_share")
    if not (most >= 1 and 0 <= part <= 100):
        raise _WrongError("max_share", "caps are a number of keys from 1, and 0 to 100 percent")
    made = Keys(
        do="show" if do == "show" else "remove",
        server=a_word(args["server"], step, "server"),
        allow=(),
        most=min(int(most), MOST),
        share=part,
        override=_word(args, step, "override").strip(),
        digest=_word(args, step, "digest").strip(),
        evidence=_folder(args, step),
        archive=a_flag(args.get("archive", True), step, "archive"),
    )
    plain = one_of(args.get("library"), step, "library", LIBRARIES) == "plain"
    if not plain and not made.archive:
        raise _WrongError(
            "archive", "counters are kept, so that undo can put them back → take it out"
        )
    _fits(args, step, plain=plain)
    try:
        return (_plain if plain else _counters)(made, args, step)
    except limits.IdentityError as error:
        raise _WrongError(error.key, str(error)) from None


def _fits(args: Mapping[str, Value], step: Step, *, plain: bool) -> None:
    """Refuse two ways to say which keys are meant: the one that is left out could be meant."""
    said: Mapping[str, object] = (
        {
            "user": _word(args, step, "user"),
            "ip": _word(args, step, "ip"),
            "all": a_flag(args.get("all", False), step, "all"),
        }
        if plain
        else {"keys": _words(args, step, "keys"), "pattern": _word(args, step, "pattern")}
    )
    for key in (key for key, value in said.items() if value):
        told = f"`{key}` means nothing with library: {_word(args, step, 'library')}"
        raise _WrongError(key, f"{told} → take it out, or name another library")


def _word(args: Mapping[str, Value], step: Step, key: str) -> str:
    return a_word(args[key], step, key) if args.get(key) is not None else ""


def _words(args: Mapping[str, Value], step: Step, key: str) -> tuple[str, ...]:
    found = (a_word(text, step, key) for text in texts(args.get(key), key))
    return tuple(dict.fromkeys(one for one in found if one))


def _folder(args: Mapping[str, Value], step: Step) -> str:
    written = _word(args, step, "evidence")
    if written and not (PurePath(written).is_absolute() or written.startswith("~/")):
        told = f"{written[:80]!r} is no whole path"
        raise _WrongError("evidence", f"{told} → /var/lib/… or ~/…: it is to be found again")
    return written


def _plain(made: Keys, args: Mapping[str, Value], step: Step) -> Keys:
    names, pattern = _words(args, step, "keys"), _word(args, step, "pattern")
    prefix, allow = _word(args, step, "prefix"), _words(args, step, "allow")
    for one in allow:
        if wrong := globs.unfit_prefix(one):
            raise _WrongError("allow", wrong)
    if names and pattern:
        raise _WrongError("pattern", "keys and a pattern are named, and one of them is meant")
    if not names and not pattern:
        raise _WrongError("pattern", "neither a key nor a pattern is named → name one of them")
    found = [globs.unfit_name(one, allow) for one in names]
    found += [globs.unfit_pattern(pattern, prefix, allow)] if pattern else []
    if wrong := next(filter(None, found), ""):
        meant = "a key or a pattern that begins as `allow` of this step says"
        more = ", or add the beginning to `allow` where all that is called so may go"
        hint = meant + (more if "of what is allowed" in wrong else "")
        raise _WrongError("pattern" if pattern else "keys", wrong, hint)
    return _rated(replace(made, names=names, pattern=pattern, allow=allow), args, step)


def _rated(made: Keys, args: Mapping[str, Value], step: Step) -> Keys:
    written = _word(args, step, "rate").strip()
    return replace(made, rates=(limits.rate(written),)) if written else made


def _counters(made: Keys, args: Mapping[str, Value], step: Step) -> Keys:
    """Name the counters of a library: of one identity, or all."""
    library = _word(args, step, "library")
    who, where = _word(args, step, "user"), _word(args, step, "ip").strip()
    every = a_flag(args.get("all", False), step, "all")
    named = [key for key, said in (("user", who), ("ip", where), ("all", every)) if said]
    if len(named) != 1:
        told = " and ".join(f"`{key}`" for key in named) or "none of `user`, `ip` and `all`"
        verb = "are said, and they contradict each other" if named else "is said"
        raise _WrongError(named[-1] if named else "do", f"{told} {verb} → say one of them")
    idents = (limits.user(who),) if who else limits.addresses(where) if where else ()
    made = _rated(made, args, step)
    given = args.get("prefix") is not None
    match library:
        case "drf":
            return _drf(made, args, step, idents, _word(args, step, "prefix") if given else ":1:")
        case "django-ratelimit":
            head = _word(args, step, "prefix") if given else ":1:"
            head += _word(args, step, "counters")
            if wrong := globs.unfit_prefix(head):
                raise _WrongError("counters", wrong)
            return _django(made, args, step, idents, head)
        case _:
            return _flask(made, idents, _word(args, step, "prefix"))


def _drf(
    made: Keys, args: Mapping[str, Value], step: Step, idents: tuple[str, ...], prefix: str
) -> Keys:
    meant = _words(args, step, "scopes")
    scopes = meant or limits.SCOPES
    for scope in scopes:
        if wrong := globs.unwritten(scope):
            raise _WrongError("scopes", f"a scope: {wrong}")
    heads = tuple(f"{prefix}throttle_{scope}_" for scope in scopes)
    rates = made.rates + tuple(
        limits.rate(a_word(value, step, "rates"), f"{prefix}throttle_{scope}_")
        for scope, value in mapping(args.get("rates")).items()
    )
    if idents:
        names = tuple(limits.throttles(prefix, scopes, idents))
        return replace(made, names=names, allow=heads, rates=rates)
    only = scopes[0] if len(scopes) == 1 else None
    pattern = f"{globs.escaped(prefix)}throttle_{globs.escaped(only) + '_' if only else ''}*"
    if len(meant) > 1:
        raise _WrongError("scopes", "`all` is of one scope, or of every → name one, or none")
    allow = heads if only else (f"{prefix}throttle_",)
    return replace(made, pattern=pattern, allow=allow, rates=rates)


def _django(
    made: Keys, args: Mapping[str, Value], step: Step, idents: tuple[str, ...], head: str
) -> Keys:
    """Compute the name of one identity's counter: no pattern can find it."""
    if not idents:
        pattern = globs.escaped(head) + "?" * 64
        return replace(made, pattern=pattern, allow=(head,))
    group = _word(args, step, "group")
    if not group or not made.rates:
        told = "django-ratelimit keeps a digest: one identity is found by its group and rate only"
        raise _WrongError("user", f"{told} → add group: and rate:, or clear `all`")
    methods = "".join(_word(args, step, "methods").split()).upper()
    windows: tuple[Windows, ...] = tuple(
        limits.counted(head, group, made.rates[0], ident, methods) for ident in idents
    )
    return replace(made, windows=windows, allow=(head,))


def _flask(made: Keys, idents: tuple[str, ...], prefix: str) -> Keys:
    head = prefix or "LIMITS:LIMITER/"
    if "LIMITER" not in head:
        raise _WrongError("prefix", f"{head!r} is no beginning of its keys → LIMITS:LIMITER/")
    if len(idents) > 1:
        told = "a network has several patterns here"
        raise _WrongError("ip", f"{told} → name one address at a time")
    end = f"{globs.escaped(idents[0])}/*" if idents else "*"
    return replace(made, pattern=f"{globs.escaped(head)}{end}", allow=(head,))
