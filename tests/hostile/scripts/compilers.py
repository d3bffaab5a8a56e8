"""Scripts that trace, compile, export or transform their models."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("compilers")

case(
    "jit_script",
    r"""
import warnings; warnings.simplefilter('ignore')
class N(nn.Module):
    def __init__(s): super().__init__(); s.a=nn.Linear(8,8); s.b=nn.Linear(8,2)
    def forward(s,x): return s.b(torch.tanh(s.a(x)))
m=torch.jit.script(N()); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
"""
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "jit_trace",
    STD
    + "import warnings; warnings.simplefilter('ignore')\nm=torch.jit.trace(m,x); opt=torch.optim.SGD(m.parameters(),lr=.1)\n"
    + LOOP
    + "print(m.graph if False else len(list(m.graph.nodes()))); fin(m,losses)\n",
)
case(
    "jit_script_mid",
    STD
    + "import warnings; warnings.simplefilter('ignore')\n"
    + LOOP
    + r"""
@torch.jit.script
def f(a: torch.Tensor) -> torch.Tensor:
    if a.sum() > 0: return a*2
    return a
print(f.code)
for i in range(5):
    opt.zero_grad(); l=F.cross_entropy(f(m(x)),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "export",
    STD
    + r"""
import warnings; warnings.simplefilter('ignore')
for i in range(3):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step()
ep=torch.export.export(m,(x,)); print(ep.graph_module.code)
for i in range(6):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
    timeout=200,
)
case(
    "export_first",
    STD
    + r"""
import warnings; warnings.simplefilter('ignore')
ep=torch.export.export(m,(x,)); print(ep.graph_module.code); m=ep.module(); opt=torch.optim.SGD(m.parameters(),lr=.1)
"""
    + LOOP
    + "fin(m,losses)\n",
    timeout=200,
)
case(
    "fx",
    STD
    + r"""
import torch.fx
opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
g=torch.fx.symbolic_trace(m); print(g.code); opt=torch.optim.SGD(g.parameters(),lr=.1); m=g
"""
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "make_fx",
    STD
    + r"""
from torch.fx.experimental.proxy_tensor import make_fx
print(make_fx(lambda a: torch.tanh(a@a.T).sum())(x).code)
"""
    + LOOP
    + "print(make_fx(lambda a: torch.tanh(a@a.T).sum())(x).code); fin(m,losses)\n",
    timeout=200,
)
case(
    "vmap",
    STD
    + r"""
from torch.func import functional_call, vmap, grad
ps={k:v for k,v in m.named_parameters()}
def lossf(p,a,b): return F.cross_entropy(functional_call(m,p,(a[None],)),b[None])
for i in range(8):
    g=vmap(grad(lossf),in_dims=(None,0,0))({k:v.detach() for k,v in ps.items()},x,y)
    opt.zero_grad()
    for k,p in ps.items(): p.grad=g[k].mean(0)
    opt.step(); l=F.cross_entropy(m(x),y); l.backward(); opt.step()
fin(m)
""",
)
case(
    "func_jacrev",
    STD
    + r"""
from torch.func import jacrev,hessian,jvp
print(digest(jacrev(lambda a:m(a))(x[:2])), digest(hessian(lambda a:m(a).sum())(x[0])), digest(jvp(lambda a:m(a),(x,),(x,))))
"""
    + LOOP
    + "print(digest(torch.autograd.functional.hessian(lambda a:m(a).sum(),x[0]))); fin(m,losses)\n",
)
case(
    "forward_ad",
    STD
    + r"""
import torch.autograd.forward_ad as fw
for i in range(6):
    with fw.dual_level():
        d=m(fw.make_dual(x,torch.ones_like(x))); print(digest(fw.unpack_dual(d).tangent))
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
fin(m)
""",
)
case(
    "compile",
    STD
    + r"""
m2=torch.compile(m,backend='aot_eager')
for i in range(8):
    opt.zero_grad(); l=F.cross_entropy(m2(x),y); l.backward(); opt.step(); losses.append(l.item())
import torch._dynamo; print({k:dict(v) for k,v in torch._dynamo.utils.counters.items() if k in('stats','graph_break')}); fin(m,losses)
""",
    timeout=300,
)
case(
    "compile_fullgraph_mid",
    STD
    + LOOP
    + r"""
m2=torch.compile(m,backend='eager',fullgraph=True)
for i in range(8):
    opt.zero_grad(); l=F.cross_entropy(m2(x),y); l.backward(); opt.step(); losses.append(l.item())
import torch._dynamo; print({k:dict(v) for k,v in torch._dynamo.utils.counters.items() if k in('stats','graph_break')}); fin(m,losses)
""",
    timeout=300,
)
case(
    "profiler",
    STD
    + r"""
from torch.profiler import profile
with profile() as p:
    for i in range(3): opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
c={e.key:e.count for e in p.key_averages()}; print(c.get('aten::addmm'), c.get('aten::mm')); fin(m)
""",
    hides=r"(?m)^\d+ \d*$|^USDT:.*\n",
    differs="a profile counts products of the watcher's too (the sharpness, a forward pass run again); it prints process ids",
)
