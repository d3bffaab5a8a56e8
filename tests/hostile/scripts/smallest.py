"""The smallest scripts that each showed one fault of a watcher, with what must hold of them."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf
from tests.hostile.checks import at_least, every, judged, less_than, not_claimed, overhead_below, recorded, says

case = Shelf("smallest")

_EXPORT = r"""
import sys, torch
from torch import nn
torch.manual_seed(0)
m = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)); x = torch.randn(16, 8); o = torch.optim.SGD(m.parameters(), lr=.01)
for i in range(int(sys.argv[1])): o.zero_grad(); m(x).pow(2).mean().backward(); o.step()
ep = torch.export.export(m, (x,)); print("exported", len(list(ep.graph.nodes)))
"""
for _steps in ("0", "1", "7", "11"):  # the step that comes next is probed, or is not
    case(f"export_min_{_steps}", _EXPORT, head=False, args=[_steps], holds=says("exported"))

_ALARM = r"""
import signal, sys, time, torch
from torch import nn
torch.manual_seed(0)
m = nn.Sequential(*[l for _ in range(20) for l in (nn.Linear(64, 64), nn.Tanh())], nn.Linear(64, 2)); x = torch.randn(64, 64); o = torch.optim.SGD(m.parameters(), lr=.01)
class TimeUp(Exception): pass
def up(s, f): raise TimeUp
signal.signal(signal.SIGALRM, up)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
t = time.time()
try:
    while time.time() - t < 6: o.zero_grad(); m(x).pow(2).mean().backward(); o.step()
    print("LIMIT IGNORED: trained on for", round(time.time() - t, 1), "s; grad mode", torch.is_grad_enabled())
except TimeUp: print("stopped", torch.is_grad_enabled())
"""
for _after in ("0.05", "0.12", "0.3", "0.7"):  # most fall into code of ours when every step is probed
    case(
        f"alarm_min_{_after}",
        _ALARM,
        head=False,
        args=[_after],
        options=["--probe-every", "1"],
        holds=says("stopped True"),
    )

_THREADS = r"""
import threading
res={}
def train(k):
    g=torch.Generator().manual_seed(k)
    m=nn.Linear(8,2)
    with torch.no_grad():
        for p in m.parameters(): p.copy_(torch.randn(p.shape,generator=g))
    x=torch.randn(16,8,generator=g); y=torch.randint(2,(16,),generator=g)
    opt=torch.optim.SGD(m.parameters(),lr=.1)
    for i in range(STEPS):
        opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step()
    res[k]=digest(m)
ts=[threading.Thread(target=train,args=(k,)) for k in range(THREADS)]
[t.start() for t in ts]; [t.join() for t in ts]; print(sorted(res.items()))
"""
case("threads", _THREADS.replace("STEPS", "60").replace("THREADS", "4"))
for _many, _steps in (("4", "60"), ("8", "300")):
    for _again in range(5):  # it crashed once or twice in ten
        case(
            f"threads{_many}_min_{_again}",
            _THREADS.replace("STEPS", _steps).replace("THREADS", _many),
            options=["--probe-every", "1"],
        )

case(
    "closefds",
    r"""
import os, torch, time
from torch import nn
torch.manual_seed(0)
m=nn.Linear(8,2); x=torch.randn(16,8); o=torch.optim.SGD(m.parameters(),lr=.1)
def tr(n):
    for i in range(n): o.zero_grad(); l=m(x).pow(2).mean(); l.backward(); o.step()
tr(5)
os.closerange(3,256)            # what daemonising code does
fs=[open(f'user{k}.bin','wb+') for k in range(6)]
for f in fs: f.write(b'A'*8192); f.flush()
for k in range(12): tr(20); time.sleep(.1)
for k,f in enumerate(fs):
    f.seek(0); b=f.read(); print(k,len(b),'INTACT' if b==b'A'*8192 else 'CORRUPTED', b[:16])
""",
    head=False,
    holds=recorded(245),
)

case(
    "closefds_all_the_time",
    r"""
import os, torch, time
from torch import nn
torch.manual_seed(0)
m=nn.Linear(8,2); x=torch.randn(16,8); o=torch.optim.SGD(m.parameters(),lr=.1)
def tr(n):
    for i in range(n): o.zero_grad(); l=m(x).pow(2).mean(); l.backward(); o.step()
tr(5); bad=0; t0=time.time(); rounds=0
while rounds<200:
    os.closerange(3,256); rounds+=1
    fs=[os.open(f'user{k}.bin',os.O_RDWR|os.O_CREAT|os.O_TRUNC) for k in range(12)]
    for f in fs: os.write(f,b'A'*8192)
    tr(1); time.sleep(.01)
    for k,f in enumerate(fs):
        try: os.write(f,b'B')
        except OSError: bad+=1
        bad+=open(f'user{k}.bin','rb').read()!=b'A'*8192+b'B'
print('hurt', bad)
""",
    head=False,
    holds=recorded(205),
)

case(
    "lock",
    r"""
import torch, time, sqlite3, sys
from torch import nn
torch.manual_seed(0)
m=nn.Linear(8,2); x=torch.randn(16,8); o=torch.optim.SGD(m.parameters(),lr=.1)
gap=0; t0=time.time(); last=t0; db=None; locked=False; steps=0
while steps<350:
    o.zero_grad(); l=m(x).pow(2).mean(); l.backward(); o.step(); steps+=1
    n=time.time(); gap=max(gap,n-last); last=n; time.sleep(.02)
    if db is None and n-t0>1 and len(sys.argv)>1 and sys.argv[1]!='none':
        try: db=sqlite3.connect('file:'+sys.argv[1]+'/run.db?mode=rw',uri=True,isolation_level=None); db.execute('begin immediate'); locked=True
        except sqlite3.OperationalError: db=0   # unwatched there is none
    if locked and n-t0>4: db.rollback(); locked=False
print('longest step', round(gap,2))
""",
    head=False,
    args=["{out}"],
    hides=r"longest step [\d.]+|gradientflow: [^\n]*\n",
    differs="it prints a time; what was not recorded meanwhile is told",
    holds=every(less_than("stdout", r"longest step ([\d.]+)", plus=1.0), recorded(340)),
)

case(
    "rec_min",
    r"""
import sys, torch
from torch import nn
class R(nn.Module):
    def __init__(s): super().__init__(); s.l = nn.Linear(4, 4)
    def forward(s, x, n): return x if n == 0 else s(torch.tanh(s.l(x)), n - 1)
m = R(); o = torch.optim.SGD(m.parameters(), lr=.01)
def goes(n):
    try:
        for i in range(3): o.zero_grad(); m(torch.ones(2, 4), n).pow(2).mean().backward(); o.step()
        return True
    except RecursionError: return False
lo, hi = 1, 2000
while hi - lo > 1:
    mid = (lo + hi) // 2
    lo, hi = (mid, hi) if goes(mid) else (lo, mid)
print("deepest", lo)
""",
    head=False,
    hides=r"deepest \d+",
    differs="a few frames of ours are under the script's",
    holds=at_least("stdout", r"deepest (\d+)", times=0.95),
)

case(
    "bwpatch",
    r"""
import torch; from torch import nn
_b=torch.Tensor.backward
def backward(self,*a,**k): return _b(self,*a,**k)
torch.Tensor.backward=backward
torch.manual_seed(0)
m=nn.Sequential(*[l for _ in range(12) for l in (nn.Linear(64,64),nn.Sigmoid())]); o=torch.optim.SGD(m.parameters(),lr=.1); x=torch.randn(64,64)
for i in range(30): o.zero_grad(); m(x).pow(2).mean().backward(); o.step()
""",
    head=False,
    holds=judged("vanishing", steps=30),
)

case(
    "metabuf",
    r"""
import torch, gradientflow as gf
from torch import nn
torch.manual_seed(0)
m=nn.Linear(4,2); m.register_buffer('mt',torch.ones(3,device='meta')); x,y=torch.randn(8,4),torch.randint(2,(8,))
nn.functional.cross_entropy(m(x),y).backward(); kept=m.weight.grad
try: gf.diagnose(m,nn.functional.cross_entropy,(x,y))
except Exception as e: print(type(e).__name__)
print('meta: grad', m.weight.grad is kept)
m=nn.Linear(4,2); m.register_buffer('ex',torch.zeros(1).expand(2)); nn.functional.cross_entropy(m(x),y).backward(); h=m.weight.register_post_accumulate_grad_hook(lambda p: None); kept=m.weight.grad
def loss(model,b): model.ex[0:1].add_(1); return nn.functional.cross_entropy(model(b[0]),b[1])
try: gf.diagnose(m,loss,(x,y));
except Exception as e: print(type(e).__name__, str(e)[:80])
print('expanded: grad', m.weight.grad is kept, 'hooks', len(m.weight._post_accumulate_grad_hooks or {}), m.ex.tolist())
""",
    head=False,
    holds=every(says("meta: grad True"), says("expanded: grad True hooks 1 [0.0, 0.0]")),
)

case(
    "sur",
    r"""
import torch; from torch import nn
m=nn.Linear(2,1); m._parameters['p\udcff']=nn.Parameter(torch.ones(1)); o=torch.optim.SGD(m.parameters(),lr=.1)
for i in range(3): o.zero_grad(); (m(torch.ones(2,2)).sum()*m._parameters['p\udcff']).backward(); o.step()
print('done')
""",
    head=False,
    holds=judged(steps=3),
)

case(
    "tenk",
    r"""
import torch; from torch import nn
torch.manual_seed(0)
ps=nn.ParameterList([nn.Parameter(torch.randn(2)) for _ in range(10000)]); o=torch.optim.SGD(ps.parameters(),lr=.01)
for i in range(3): o.zero_grad(); torch.stack(list(ps)).pow(2).sum().backward(); o.step()
print(float(sum(p.sum() for p in ps)))
""",
    head=False,
    holds=every(judged(steps=3), overhead_below(1.0)),
)

case(
    "huge64",
    r"""
import torch
torch.manual_seed(0)
w=torch.nn.Parameter(torch.ones(3,dtype=torch.float64)); o=torch.optim.SGD([w],lr=1e-300)
for i in range(40):
    o.zero_grad(); l=(w*1e308).sum()/3*(1+0.001*i); l.backward(); o.step()
print(l.item())
""",
    head=False,
    holds=judged(steps=40),
)

case(
    "chdir_relative",  # as Hydra does it
    STD
    + "os.makedirs('elsewhere'); os.chdir('elsewhere')\n"
    + LOOP * 2
    + "print(sorted(os.listdir('.'))); fin(m,losses)\n",
    relative=True,
    holds=judged(steps=60),
)

_GONE = "import shutil, time\n" + STD + LOOP + "\nGONE\ntime.sleep(.6)\n" + LOOP + "fin(m,losses)\n"
for _name, _how in (
    ("folder_deleted", "shutil.rmtree(sys.argv[1], ignore_errors=True)"),
    ("store_deleted", "os.path.exists(sys.argv[1]+'/run.db') and os.unlink(sys.argv[1]+'/run.db')"),
):
    case(
        _name,
        _GONE.replace("GONE", _how),
        args=["{out}"],
        hides=r"gradientflow: [^\n]*\n",
        differs="what could not be written is told on standard error",
        holds=every(judged(), not_claimed("never took", "no gradient", "all values are finite")),
    )
