"""Children that heed Ctrl-C, also where this process was started with it ignored (by `&` in a script, as cluster jobs are)."""

import signal


def heeds_ctrl_c() -> None:
    """For `preexec_fn`: give a child the disposition that a program has in a terminal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
