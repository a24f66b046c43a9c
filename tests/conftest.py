"""What holds for all tests, wherever they are started from."""

import signal


def pytest_configure() -> None:
    """Take signals as a terminal would give them.

    What is started in the background, or by nohup, ignores some, and all that it starts does too.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
