"""Models that are odd: names, many tensors, methods with side effects, parameters exchanged, copies."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("models")

case(
    "tenk_params",
    r"""
ps=nn.ParameterList([nn.Parameter(torch.randn(2)) for _ in range(10000)]); opt=torch.optim.SGD(ps.parameters(),lr=.01)
for i in range(3):
    opt.zero_grad(); l=torch.stack(list(ps)).pow(2).sum(); l.backward(); opt.step(); print(repr(l.item()))
fin(list(ps))
""",
    timeout=240,
)
case(
    "strange_names",
    r"""
class N(nn.Module):
    def __init__(s):
        super().__init__()
        for n in ['../x','ü中文','n'*10000,'</script><script>alert(1)</script>','"><img src=x onerror=alert(1)>','a b\nc','\x00nul',"'; DROP TABLE steps;--",'\u202egnp','%s%n{0}','[bold red]x[/]','[/bold]', '\ud800'.encode('utf8','surrogatepass').decode('utf8','replace')]:
            s._parameters[n]=nn.Parameter(torch.randn(2))
    def forward(s,x): return sum((x*p).sum() for p in s._parameters.values())
m=N(); x=torch.randn(4,2); opt=torch.optim.SGD(m.parameters(),lr=1e-3); losses=[]
for i in range(10):
    opt.zero_grad(); l=m(x).pow(2); l.backward(); opt.step(); losses.append(l.item())
fin(list(m.parameters()),losses)
""",
)
case(
    "surrogate_name",
    r"""
class N(nn.Module):
    def __init__(s):
        super().__init__(); s._parameters['bad\ud800']=nn.Parameter(torch.randn(2)); s._modules['m\udcff']=nn.Linear(2,2)
    def forward(s,x): return (s._modules['m\udcff'](x)*s._parameters['bad\ud800']).sum()
m=N(); x=torch.randn(4,2); opt=torch.optim.SGD(m.parameters(),lr=1e-3)
for i in range(5):
    opt.zero_grad(); l=m(x).pow(2); l.backward(); opt.step(); print(repr(l.item()))
""",
)
case(
    "slots_module",
    r"""
class Net(nn.Module):
    def __getattr__(s,k):
        if k.startswith('_gf') or 'gradient' in k: raise SystemError('touched '+k)
        return super().__getattr__(k)
    def __init__(s): super().__init__(); s.l=nn.Linear(8,2)
    def __len__(s): raise RuntimeError('len')
    def __bool__(s): raise RuntimeError('bool')
    def __eq__(s,o): raise RuntimeError('eq')
    __hash__=nn.Module.__hash__
    def __repr__(s): raise RuntimeError('repr')
    def named_parameters(s,*a,**k): print('NP'); return super().named_parameters(*a,**k)
    def forward(s,x): return s.l(x)
m=Net(); x,y=data(); opt=torch.optim.SGD(m.l.parameters(),lr=.1); losses=[]
"""
    + LOOP
    + "fin(m.l,losses)\n",
)
case(
    "named_modules_side",
    r"""
class Net(nn.Module):
    def __init__(s): super().__init__(); s.l=nn.Linear(8,2); s.n=0
    def named_modules(s,*a,**k): print('NM'); return super().named_modules(*a,**k)
    def modules(s): print('MODS'); return super().modules()
    def parameters(s,*a,**k): print('PARS'); return super().parameters(*a,**k)
    def children(s): print('CH'); return super().children()
    def forward(s,x): return s.l(x)
m=Net(); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
"""
    + LOOP
    + "fin(m.l,losses)\n",
)
case(
    "lazy",
    r"""
m=nn.Sequential(nn.LazyLinear(8),nn.ReLU(),nn.LazyLinear(2)); x,y=data(); m(x); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
"""
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "lazy_unmat",
    r"""
m=nn.Sequential(nn.Linear(8,8),nn.ReLU(),nn.Linear(8,2)); m2=nn.LazyLinear(3); x,y=data(); opt=torch.optim.SGD([*m.parameters(),*m2.parameters()],lr=.1); losses=[]
"""
    + LOOP
    + "print(m2); fin(m,losses)\n",
)
case(
    "param_data_swap",
    STD
    + r"""
for i in range(12):
    if i==4: m[0].weight.data=m[0].weight.data.double().float()*1.0
    if i==6: m[0].weight=nn.Parameter(m[0].weight.detach().clone()); opt=torch.optim.SGD(m.parameters(),lr=.1)
    if i==8: m.double(); x=x.double()
    if i==10: torch.utils.swap_tensors(m[2].weight, nn.Parameter(torch.randn(8,8).double()))
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "swap_module_params",
    "torch.__future__.set_swap_module_params_on_conversion(True)\n"
    + STD
    + r"""
for i in range(12):
    if i in (3,6): m.to(torch.float64 if i==3 else torch.float32); x=x.to(m[0].weight.dtype)
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "swap_tensors_graph",
    STD
    + r"""
for i in range(6):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step()
    a,b=m[0].weight, nn.Parameter(torch.randn(8,8));
    try: torch.utils.swap_tensors(a,b); print('ok')
    except RuntimeError as e: print('ERR',str(e)[:60])
fin(m)
""",
)
case(
    "pickle_main",
    r"""
import pickle
class Thing:
    def __init__(s): s.a=3
class Net(nn.Module):
    def __init__(s): super().__init__(); s.l=nn.Linear(8,2)
    def forward(s,x): return s.l(x)
m=Net(); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1,momentum=.9); losses=[]
"""
    + LOOP
    + r"""
b=pickle.dumps(Thing()); print(b); print(pickle.loads(b).a, Thing.__module__)
b=pickle.dumps(m); print(len(b), b'gradientflow' in b)   # (it holds addresses)
b=pickle.dumps(opt); print(len(b), b'gradientflow' in b)
torch.save(m,'whole.pt'); torch.save(opt,'opt.pt'); torch.save(m.state_dict(),'sd.pt')
for f in ['whole.pt','opt.pt','sd.pt']:
    bb=open(f,'rb').read(); print(f,len(bb),hashlib.sha256(bb).hexdigest(), b'gradientflow' in bb)
m2=torch.load('whole.pt',weights_only=False); fin(m2,losses)
""",
)
case(
    "deepcopy_mid",
    STD
    + r"""
import copy
for i in range(12):
    opt.zero_grad(); l=F.cross_entropy(m(x),y)
    if i==3: m2=copy.deepcopy(m); o2=copy.deepcopy(opt)
    l.backward()
    if i==5: m3=copy.deepcopy(m)
    opt.step()
    if i==6: m=copy.deepcopy(m); opt=torch.optim.Adam(m.parameters())
d=m.__dict__; print(sorted(m2.__dict__), [len(v._forward_hooks)+len(v._backward_hooks)+len(v._forward_pre_hooks) for v in m2.modules()], [p._backward_hooks for p in m3.parameters()], [p.__dict__ for p in m2.parameters()])
fin(m,m2,m3)
""",
)
case(
    "ema_deepcopy_prefwd",
    STD
    + r"""
import copy
for i in range(8):
    out=m(x); ema=copy.deepcopy(m); opt.zero_grad(); F.cross_entropy(out,y).backward(); opt.step()
    print([len(p._post_accumulate_grad_hooks or {}) if hasattr(p,'_post_accumulate_grad_hooks') else 0 for p in ema.parameters()],[len(p._backward_hooks or {}) for p in ema.parameters()])
fin(m,ema)
""",
)
