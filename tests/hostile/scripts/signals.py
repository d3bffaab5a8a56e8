"""Scripts that live by signals: handlers that exit or raise, time limits, interrupts."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("signals")

case(
    "sigterm_handler",
    STD
    + r"""
import signal
signal.signal(signal.SIGTERM, lambda s,f: (print('TERM handled',f.f_code.co_filename==__file__ or True), sys.exit(9)))
signal.signal(signal.SIGUSR1, lambda s,f: print('USR1'))
for i in range(6):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    if i==2: os.kill(os.getpid(),signal.SIGUSR1)
    if i==4: os.kill(os.getpid(),signal.SIGTERM)
""",
)
case(
    "sigterm_default",
    STD
    + r"""
import signal
for i in range(6):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    if i==4: os.kill(os.getpid(),signal.SIGTERM)
""",
)
case(
    "sigint_self",
    STD
    + r"""
import signal
for i in range(6):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    if i==4: os.kill(os.getpid(),signal.SIGINT)
""",
    skips=["stderr"],
    differs="Ctrl-C ends a watched script with the verdict in place of a traceback",
)
case(
    "sigint_caught",
    STD
    + r"""
import signal
try:
    for i in range(6):
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
        if i==4: os.kill(os.getpid(),signal.SIGINT)
except KeyboardInterrupt: print('saved'); fin(m)
print(signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP))
""",
)
case(
    "sigalrm",
    STD
    + r"""
import signal,time
def h(s,f): raise TimeoutError('alarm')
signal.signal(signal.SIGALRM,h); signal.setitimer(signal.ITIMER_REAL,0.3)
try:
    while True:
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
except TimeoutError as e: print('timeout',e)
""",
    timeout=60,
)
case(
    "sigalrm_many",
    STD
    + r"""
import signal
n=[0]
def h(s,f): n[0]+=1; torch.nn.Linear(2,2)(torch.ones(1,2));
st=torch.get_rng_state()
signal.signal(signal.SIGALRM,lambda s,f: n.__setitem__(0,n[0]+1)); signal.setitimer(signal.ITIMER_REAL,0.005,0.005)
for i in range(300):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
signal.setitimer(signal.ITIMER_REAL,0); print(n[0]>0); fin(m)
""",
)
case(
    "signal_exception_swallowed",
    STD
    + """
import signal, time
class Stop(Exception): pass
def h(s,f): raise Stop()
signal.signal(signal.SIGALRM,h)
caught=0
for k in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL,0.002+0.0007*k)
        t=time.time()
        while time.time()-t<0.4:
            opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
        signal.setitimer(signal.ITIMER_REAL,0)
    except Stop: caught+=1
print('caught',caught,'of 60')
""",
    timeout=100,
)
case(
    "sigusr1_raise_systemexit",
    STD
    + """
import signal
def h(s,f): raise SystemExit(12)
signal.signal(signal.SIGALRM,h); signal.setitimer(signal.ITIMER_REAL,0.5)
while True: opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
""",
)
case(
    "kbd_caught_continue",
    STD
    + """
import signal
signal.signal(signal.SIGALRM,signal.default_int_handler)
n=0
for k in range(40):
    try:
        signal.setitimer(signal.ITIMER_REAL,0.002+0.0007*k)
        while True: opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    except KeyboardInterrupt: n+=1
print(n, torch._C._len_torch_function_stack()<2)
m=mlp(); torch.manual_seed(1); opt=torch.optim.SGD(m.parameters(),lr=.1)
"""
    + LOOP
    + "with torch.device('meta'): print(torch.ones(1).device)\nprint(torch.ones(1).device, losses[-1]); \n",
    timeout=100,
)
