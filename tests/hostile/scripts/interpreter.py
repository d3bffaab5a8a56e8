"""Scripts that look at the interpreter itself: traces, stacks, recursion, references, what is collected."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf
from tests.hostile.checks import at_least, less_than

case = Shelf("interpreter")

case(
    "settrace",
    STD
    + r"""
n=[0]
def tr(f,e,a):
    if f.f_code.co_filename==__file__: n[0]+=1
    return tr
sys.settrace(tr)
"""
    + LOOP
    + "sys.settrace(None); print(n); fin(m,losses)\n",
)
case(
    "settrace_all_calls",
    STD
    + r"""
files=set()
def tr(f,e,a):
    files.add(os.path.basename(os.path.dirname(f.f_code.co_filename))); return None
sys.settrace(tr)
"""
    + LOOP
    + "sys.settrace(None); print('gradientflow-frames-visible', any('watch' in f or 'probe' in f for f in files)); fin(m,losses)\n",
    hides=r"gradientflow-frames-visible \w+",
    differs="a trace of every call sees calls of ours too",
)
case(
    "setprofile",
    STD
    + r"""
n={}
def pr(f,e,a):
    if f.f_code.co_filename==__file__: n[e]=n.get(e,0)+1
sys.setprofile(pr)
"""
    + LOOP
    + "sys.setprofile(None); print(n); fin(m,losses)\n",
)
case(
    "recursionlimit",
    STD + "sys.setrecursionlimit(120)\n" + LOOP + "print(sys.getrecursionlimit()); fin(m,losses)\n",
)
case(
    "recursionlimit_depth",
    r"""
def depth(n=0):
    try: return depth(n+1)
    except RecursionError: return n
print('frames_left', depth())
""",
    hides=r"frames_left \d+",
    differs="a few frames of ours are under the script's",
    holds=at_least("stdout", r"frames_left (\d+)", times=0.95),
)
case(
    "deep_recursion_model",
    r"""
class R(nn.Module):
    def __init__(s): super().__init__(); s.l=nn.Linear(8,8)
    def forward(s,x,n=0): return x if n==150 else s(torch.tanh(s.l(x)),n+1)
m=R(); x=torch.randn(4,8); opt=torch.optim.SGD(m.parameters(),lr=.01)
for i in range(5):
    opt.zero_grad(); l=m(x).pow(2).mean(); l.backward(); opt.step(); print(repr(l.item()))
fin(m)
""",
)
case(
    "recursion_error_script",
    STD
    + r"""
def f(n): return f(n+1)+1
for i in range(3):
    opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward(); opt.step()
f(0)
""",
    hides=r"repeated \d+ more times",
    differs="a few frames of ours are under the script's, so the stack ends a few calls sooner",
)
_RECURSIVE = """
class R(nn.Module):
    def __init__(s): super().__init__(); s.l=nn.Linear(8,8)
    def forward(s,x,n=0): return x if n==N else s(torch.tanh(s.l(x)),n+1)
m=R(); x=torch.randn(4,8); opt=torch.optim.SGD(m.parameters(),lr=.01)
for i in range(5):
    opt.zero_grad(); l=m(x).pow(2).mean(); l.backward(); opt.step(); print(repr(l.item()))
fin(m)
"""
for _name, _depth in (("recursion_n150", "150"), ("recursion_n225", "225")):  # plain it goes to about 248
    case(_name, "N=" + _depth + _RECURSIVE)
case(
    "recursion_too_deep",
    "N=600" + _RECURSIVE,
    skips=["stderr"],
    differs="frames of ours are under the script's, so the stack ends at another call",
)
case(
    "stack_depth",
    STD
    + r"""
import inspect, traceback
for i in range(2):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
print([f.name for f in traceback.extract_stack()])
""",
    hides=r"\[.*\]",
    differs="frames of ours are under the script's, and it prints them",
)
case(
    "weakref",
    STD
    + r"""
import weakref,gc
for i in range(12):
    out=m(x); r=weakref.ref(out); opt.zero_grad(); l=F.cross_entropy(out,y); rl=weakref.ref(l); l.backward(); opt.step()
    del out,l; print(i, r() is None, rl() is None)
mr=weakref.ref(m); orf=weakref.ref(opt); del m,opt; gc.collect(); print(mr() is None, orf() is None)
m=mlp(); opt=torch.optim.SGD(m.parameters(),lr=.1);
for i in range(3): opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
mr=weakref.ref(m); pr=weakref.ref(m[0].weight); del m; opt=None; gc.collect(); print(mr() is None, pr() is None)
""",
)
case(
    "weakref_nogc",
    "import gc,weakref\ngc.disable()\n"
    + STD
    + r"""
for i in range(12):
    out=m(x); r=weakref.ref(out); l=F.cross_entropy(out,y); rl=weakref.ref(l)
    if i%2: opt.zero_grad(); l.backward(); opt.step()
    del out,l; print(i,r() is None, rl() is None)
""",
)
case(
    "graph_dropped",
    STD
    + r"""
import weakref
for i in range(6):
    out=m(x); h=out.relu(); n=weakref.ref(h); del out,h; print(n() is None)
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
""",
)
case(
    "gc_count",
    STD
    + r"""
import gc
base=None
for i in range(20):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
gc.collect(); print(len(gc.garbage), gc.isenabled(), gc.get_threshold())
gc.set_debug(gc.DEBUG_SAVEALL)
for i in range(20):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
gc.collect(); print('garbage',len(gc.garbage))
""",
)
case(
    "refcount",
    STD
    + r"""
for i in range(10):
    opt.zero_grad(); out=m(x); l=F.cross_entropy(out,y); l.backward(); opt.step(); print(sys.getrefcount(out),sys.getrefcount(l),sys.getrefcount(m),sys.getrefcount(m[0].weight),sys.getrefcount(opt))
""",
    hides=r"\d+ \d+ \d+ \d+ \d+",
    differs="it counts references, and a watcher holds some",
)
case(
    "memory",
    r"""
import resource
m=nn.Sequential(*[nn.Linear(1000,1000) for _ in range(20)]); x=torch.randn(64,1000); opt=torch.optim.SGD(m.parameters(),lr=1e-3)
for i in range(6):
    opt.zero_grad(); l=m(x).pow(2).mean(); l.backward(); opt.step()
print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); fin(m)
""",
    cold=True,
    hides=r"PEAK \d+",
    differs="a watcher needs memory too",
    holds=less_than("stdout", r"PEAK (\d+)", times=1.25),
)
case(
    "import_hook_meta",
    r"""
print([type(f).__name__ if not isinstance(f,type) else f.__name__ for f in sys.meta_path])
""",
)
case(
    "sysmodules",
    r"""
print(sorted(k for k in sys.modules if k.split('.')[0] in ('rich','typer','click','msgspec','sqlite3','yaml')))
""",
    hides=r"\[.*\]",
    differs="it lists modules, and a watcher has loaded more",
)
case(
    "torch_not_imported",
    "import sys; print('torch' in sys.modules, 'numpy' in sys.modules)\n",
    head=False,
    hides=r"\w+ \w+",
    differs="a watcher loads PyTorch before the script begins, which the docs say",
)
case(
    "exec_code",
    STD
    + r"""
exec(compile("def loss_fn(o,y):\n  return F.cross_entropy(o,y)\n","<generated>","exec"))
exec("for i in range(10):\n opt.zero_grad(); l=loss_fn(m(x),y); l.backward(); opt.step(); losses.append(l.item())")
fin(m,losses)
""",
)
case(
    "getsource",
    r"""
import inspect
class Net(nn.Module):
    def __init__(s): super().__init__(); s.l=nn.Linear(2,2)
    def forward(s,x): return s.l(x)
print(inspect.getsource(Net)); print(inspect.getsource(sys.modules['__main__'])[:20]); print(inspect.getfile(Net)==__file__)
""",
)
case(
    "unraisable",
    STD
    + r"""
class D:
    def __del__(s): raise ValueError('del')
d=D(); del d
for i in range(3):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
""",
)
case(
    "faulthandler",
    "import faulthandler; faulthandler.enable()\n" + STD + LOOP + "print(faulthandler.is_enabled()); fin(m,losses)\n",
)
case(
    "generator_loop",
    STD
    + r"""
def gen():
    for i in range(10):
        opt.zero_grad(); l=F.cross_entropy(m(x),y); yield l; l.backward(); yield l; opt.step()
for l in gen(): losses.append(l.item())
fin(m,losses)
""",
)
case(
    "async",
    STD
    + r"""
import asyncio
async def tr(k):
    mm=mlp(); o=torch.optim.SGD(mm.parameters(),lr=.1)
    for i in range(8):
        o.zero_grad(); l=F.cross_entropy(mm(x),y); await asyncio.sleep(0); l.backward(); await asyncio.sleep(0); o.step()
    return digest(mm)
async def main(): print(await asyncio.gather(*[tr(k) for k in range(3)]))
asyncio.run(main()); fin(m)
""",
)
