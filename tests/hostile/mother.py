"""The life of an interpreter that has loaded PyTorch and forks for each run. A program, never imported.

A child falls out of the loop and goes on at the end of this text: so it ends as any script does, `atexit`, threads and all.
"""

import sys

sys.path[0] = __file__.rsplit("/", 3)[0]  # ours, for the time of our imports; then the script's folder takes the place
import contextlib  # noqa: E402
import importlib.machinery  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import signal  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402

import torch  # noqa: E402
import torch._dynamo  # noqa: E402  (the first optimizer imports it)

import gradientflow.cli  # noqa: E402
import gradientflow.depth.watch.session  # noqa: E402, F401
from gradientflow.depth.watch.post import set_aside  # noqa: E402

_ROOT, sys.path[0] = sys.path[0], ""
set_aside()  # what is loaded here is not looked through again at each child's end


def _become(errand: dict) -> None:
    """Be the child: a session of its own, streams, folder, environment, and random numbers as at the start."""
    os.setsid()
    for number, (name, flags) in enumerate(
        [("stdin", os.O_RDONLY), *[(n, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for n in ("stdout", "stderr")]]
    ):
        file = os.open(os.path.join(errand["folder"], name), flags, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (for the life of the process)
    os.chdir(errand["cwd"])
    os.environ.update(errand["env"])
    if errand["deaf"]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    random.seed(0)
    torch.manual_seed(0)


def _wait(pid: int, seconds: float) -> int | None:
    """Wait for a child; None where it had to be killed. What it left running ends with it."""
    end, code, pause = time.monotonic() + seconds, None, 0.005
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
        if done or time.monotonic() > end:
            break
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if not done:
        os.waitpid(pid, 0)
    return code


def _plain(argv: list[str]) -> None:
    """Run a script as `python script.py` does, in this process."""
    file = argv[0]
    main = types.ModuleType("__main__")
    main.__file__, main.__loader__ = file, importlib.machinery.SourceFileLoader("__main__", file)
    main.__dict__["__cached__"] = None
    if "__annotations__" in globals():  # this Python gives a script one from the start
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    sys.argv[:], sys.path[0] = argv, os.path.dirname(file)
    with open(file, "rb") as script:
        code = compile(script.read(), file, "exec", dont_inherit=True)
    try:
        exec(code, main.__dict__)
    except SystemExit:
        raise
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.excepthook(*_told())
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*_told())
        sys.exit(1)


def _door(name: str):
    """The function behind `module:function`, in the repository."""
    module, _, function = name.partition(":")
    sys.path.insert(0, _ROOT)
    try:
        return getattr(importlib.import_module(module), function)
    finally:
        sys.path.pop(0)


def _told() -> tuple:
    """The exception at hand, without the frame of ours that the script was started from."""
    kind, problem, trace = sys.exc_info()
    problem.__traceback__ = trace.tb_next
    return kind, problem, trace.tb_next


for _line in sys.stdin:
    _errand = json.loads(_line)
    _pid = os.fork()
    if _pid == 0:
        break
    print(json.dumps(_wait(_pid, _errand["seconds"])), flush=True)
else:
    os._exit(0)

_become(_errand)
if _errand["watched"]:
    _door(_errand["door"])(_errand["argv"])
else:
    _plain(_errand["argv"])
