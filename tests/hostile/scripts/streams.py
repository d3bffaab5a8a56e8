"""Scripts that work on their streams and limits: closed descriptors, warnings, resource limits."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("streams")

case(
    "binary_stdout",
    STD
    + LOOP
    + "sys.stdout.buffer.write(bytes(range(256))); sys.stdout.flush(); sys.stderr.buffer.write(b'\\xff\\xfe')\n",
)
case("close_stdout", STD + LOOP + "print('x'); sys.stdout.close()\n")
case("close_fd", STD + LOOP + "print('x',flush=True); os.close(1); os.close(2)\n")
case(
    "close_all_fds",
    STD
    + LOOP
    + "print('x',flush=True); sys.stdout.flush(); os.closerange(3,256); print('alive',flush=True)\n"
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "redirect_stdout",
    STD
    + r"""
import io,contextlib
b=io.StringIO()
with contextlib.redirect_stdout(b), contextlib.redirect_stderr(b):
    print('in')
"""
    + LOOP
    + r"""
print(repr(b.getvalue())); sys.stderr=b; fin(m,losses)
""",
)
case(
    "stdout_line_buffer",
    "print(sys.stdout.line_buffering, sys.stdout.write_through, sys.stderr.line_buffering, sys.stdin.encoding)\n",
)
case(
    "logging",
    "import logging; logging.basicConfig(level=logging.DEBUG,stream=sys.stdout,format='%(name)s %(message)s')\n"
    + STD
    + LOOP
    + "logging.info('x'); fin(m,losses)\n",
)
case("werror", STD + LOOP + "fin(m,losses)\n", env={"PYTHONWARNINGS": "error"})
case("werror_in_script", "import warnings; warnings.simplefilter('error')\n" + STD + LOOP + "fin(m,losses)\n")
case(
    "warnings_shown_by_a_hook",
    STD
    + r"""
import warnings, traceback, threading, numpy as np
def mine(message, category, filename, lineno, file=None, line=None):
    traceback.print_stack(file=sys.stderr); frame, names = sys._getframe(1), []
    while frame is not None and frame.f_code.co_name != '<module>': names.append(frame.f_code.co_name); frame = frame.f_back
    print(category.__name__, message, os.path.basename(filename), names if category is Odd else '', file=sys.stderr)
np.log(np.zeros(1)); warnings.showwarning = mine; warnings.simplefilter('always')
class Odd(UserWarning):
    def __str__(self): print('asked'); return 'odd'
for i in range(6):
    warnings.warn(Odd()); F.mse_loss(m(x)[:,:1], torch.randn(16)).backward(); opt.step()
    with warnings.catch_warnings(record=True) as kept: warnings.warn('kept'); print(len(kept), type(kept[0]) is warnings.WarningMessage)
t=threading.Thread(target=warnings.warn,args=('elsewhere',)); t.start(); t.join()
fin(m)
""",
)
case(
    "warnings_once",
    "import warnings\n"
    + STD
    + r"""
warnings.warn('hello');
for i in range(3):
    warnings.warn('again'); opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
sch=torch.optim.lr_scheduler.StepLR(opt,1); sch.step(); print(warnings.filters[:2])
""",
)
case(
    "warn_sched_first",
    STD
    + r"""
sch=torch.optim.lr_scheduler.StepLR(opt,1); sch.step()
"""
    + LOOP,
)
case(
    "rlimit_nofile",
    "import resource\n"
    + STD
    + r"""
resource.setrlimit(resource.RLIMIT_NOFILE,(24,24))
"""
    + LOOP
    + "fs=[open('/dev/null') for _ in range(8)]; print(len(fs)); fin(m,losses)\n",
)
case(
    "rlimit_nofile_count",
    "import resource\n"
    + STD
    + LOOP
    + r"""
resource.setrlimit(resource.RLIMIT_NOFILE,(40,40)); fs=[]
try:
    while True: fs.append(open('/dev/null'))
except OSError as e: print(e.errno)
fin(m)
""",
)
case(
    "rlimit_as",
    "import resource\n"
    + STD
    + r"""
vm=int(open('/proc/self/statm').read().split()[0])*4096
resource.setrlimit(resource.RLIMIT_AS,(vm+200*2**20,)*2)
"""
    + LOOP
    + r"""
try: torch.zeros(10**9)
except RuntimeError as e: print('OOM')
fin(m,losses)
""",
)
case(
    "rlimit_fsize",
    "import resource\n"
    + STD
    + r"""
resource.setrlimit(resource.RLIMIT_FSIZE,(20000,20000))
"""
    + LOOP * 3
    + "fin(m,losses)\n",
    hides=r"gradientflow: [^\n]*\n",
    differs="what could not be written within the limit is told on standard error",
)
case("rlimit_cpu", "import resource,signal\n" + STD + LOOP + "fin(m)\n")
case("rlimit_nproc", "import resource\n" + STD + LOOP + "fin(m)\n")
