"""What a host says of a change that was sent to it, to who only looks: nothing is done there."""

from opskit.drivers.command import digest, user_of
from opskit.drivers.target import Target
from opskit.drivers.wire import LostError
from opskit.errors import UnreachableError
from opskit.model.job import Job, Trace


def tell(target: Target, job: Job, sudo: str | None, seconds: float) -> Trace:
    """Ask for the traces of an attempt, for at most `seconds` once the host is connected to."""
    try:
        session = target.session(user_of(job, sudo), writes=False)
        words = (job.host.connection.state_dir, job.run, digest(job))
        nonce, *state = session.call("_o_tell", *words, timeout=seconds)
    except UnreachableError as error:
        return _unreachable(error.line)
    except LostError as error:
        return _unreachable(error.what)
    except TimeoutError:
        return _unreachable(f"it does not answer within {seconds:g} s")
    then = job.contact
    same = then is not None and bool(then.nonce) and then.nonce == nonce
    booted = then is not None and then.boot_id != session.boot_id
    return _concluded(state, same=same, booted=booted)


def _unreachable(why: str) -> Trace:
    return Trace(state="unreachable", says=f"it can't be asked: {why}")


def _concluded(state: list[str], *, same: bool, booted: bool) -> Trace:
    """Draw from traces what is certain; what a resume would conclude is no more than that."""
    match state[0], booted:
        case "done", _:
            status = int(state[1])
            return Trace(state="ended", says=f"it has ended, with status {status}", status=status)
        case "barred", _:
            return Trace(state="never began", says="it never began there, and never will")
        case _, True:
            return Trace(state="can't tell", says="the host was started anew since; no outcome")
        case _ if not same:
            return Trace(state="can't tell", says="it has no traces of this run any more")
        case "running", _:
            return Trace(state="running", says=f"it still runs, as process {state[1]}")
        case "none", _:
            return Trace(state="never began", says="it has not begun there")
        case "claimed", _:
            return Trace(state="can't tell", says="it was about to begin when that was last seen")
        case _:
            return Trace(state="can't tell", says="its process was ended before it could say how")
