"""Scripts that hook or replace what a watcher hooks: their own hooks must fire as often, and in the same order."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("hooks")

case(
    "user_hooks",
    STD
    + r"""
log=[]
for n,mod in m.named_modules():
    mod.register_forward_hook(lambda mod,i,o,n=n: log.append(('fwd',n)))
    mod.register_forward_pre_hook(lambda mod,i,n=n: log.append(('pre',n)))
    mod.register_full_backward_hook(lambda mod,gi,go,n=n: log.append(('bwd',n)))
for n,p in m.named_parameters():
    p.register_hook(lambda g,n=n: (log.append(('ph',n)), g*1.01)[1])
    p.register_post_accumulate_grad_hook(lambda p,n=n: log.append(('pa',n)))
opt.register_step_pre_hook(lambda o,a,k: log.append('osp'))
opt.register_step_post_hook(lambda o,a,k: log.append('opo'))
"""
    + LOOP
    + "print(len(log),digest(log)); fin(m,losses)\n",
)
case(
    "tensor_hooks_in_graph",
    STD
    + r"""
log=[]
for i in range(12):
    opt.zero_grad(); h=m[0](x); h.register_hook(lambda g: log.append(g.norm().item())); h.retain_grad()
    for l in list(m)[1:]: h=l(h)
    loss=F.cross_entropy(h,y); loss.grad_fn.register_hook(lambda a,b: log.append('node')); loss.backward(); opt.step()
print(len(log),digest(log)); fin(m)
""",
)
case(
    "node_hook_via_next",
    STD
    + r"""
log=[]
for i in range(12):
    opt.zero_grad(); loss=F.cross_entropy(m(x),y)
    import torch.autograd.graph as G
    node=loss.grad_fn.next_functions[0][0]
    node.register_prehook(lambda a: log.append('pre')); node.register_hook(lambda a,b: log.append('post'))
    loss.backward(); opt.step()
print(len(log)); fin(m)
""",
)
case(
    "multi_grad_hook",
    STD
    + r"""
log=[]
torch.autograd.graph.register_multi_grad_hook(list(m.parameters()), lambda gs: log.append(sum(g is not None for g in gs)))
"""
    + LOOP
    + "print(len(log),log[:3]); fin(m,losses)\n",
)
case(
    "hook_counts_on_params",
    STD
    + r"""
for i in range(8):
    opt.zero_grad(); out=m(x); l=F.cross_entropy(out,y); l.backward(); opt.step()
    print(i,[len(p._backward_hooks or {}) for p in m.parameters()],[len(p._post_accumulate_grad_hooks or {}) for p in m.parameters()],len(opt._optimizer_step_pre_hooks),len(opt._optimizer_step_post_hooks),[len(x._forward_hooks) for x in m.modules()])
""",
    hides=r"(?m)^\d+ \[.*",
    differs="it counts the hooks on its parameters, and a watcher's are among them",
)
case(
    "saved_tensors_hooks",
    STD
    + r"""
n=[0]
def pk(t): n[0]+=1; return t
def up(t): n[0]+=100; return t
for i in range(12):
    with torch.autograd.graph.saved_tensors_hooks(pk,up):
        opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step()
print(n); fin(m)
""",
)
case(
    "saved_hooks_fwd_only",
    STD
    + r"""
n=[0]
def pk(t): n[0]+=1; return t
def up(t): n[0]+=100; return t
for i in range(12):
    with torch.autograd.graph.saved_tensors_hooks(pk,up): out=m(x)
    opt.zero_grad(); l=F.cross_entropy(out,y); l.backward(); opt.step()
print(n); fin(m)
""",
)
case(
    "save_on_cpu",
    STD
    + r"""
for i in range(8):
    with torch.autograd.graph.save_on_cpu(): out=m(x)
    opt.zero_grad(); F.cross_entropy(out,y).backward(); opt.step()
fin(m)
""",
)
case(
    "optim_cls_patch",
    STD
    + r"""
n=[0]
o=torch.optim.SGD.step
def st(self,*a,**k): n[0]+=1; return o(self,*a,**k)
torch.optim.SGD.step=st
opt=torch.optim.SGD(m.parameters(),lr=.1)
"""
    + LOOP
    + "print(n); fin(m,losses)\n",
)
case(
    "monkeypatch",
    STD
    + r"""
calls=[0]
orig=torch.Tensor.backward
def bw(self,*a,**k): calls[0]+=1; return orig(self,*a,**k)
torch.Tensor.backward=bw
ol=F.linear
def lin(*a,**k): calls[0]+=1; return ol(*a,**k)
F.linear=lin; torch.nn.functional.linear=lin
of=torch._foreach_norm
def fn(*a,**k): print('FOREACH_NORM'); return of(*a,**k)
torch._foreach_norm=fn
oc=torch.Tensor.clone
def cl(self,*a,**k): calls[0]+=1; return oc(self,*a,**k)
torch.Tensor.clone=cl
os_=torch.stack
def st(*a,**k): calls[0]+=1; return os_(*a,**k)
torch.stack=st
"""
    + LOOP
    + "print(calls); fin(m,losses)\n",
    differs="it counts calls of what it put in the place of PyTorch's own, and a watcher calls that too",
    skips=["stdout"],
)
case(
    "monkeypatch_detach_norm",
    STD
    + r"""
calls={}
for name in ['detach','float','sum','norm','item','tolist','to','reshape','mean','abs','isfinite','numel','std','view','flatten','__mul__','__sub__']:
    o=getattr(torch.Tensor,name)
    def w(self,*a,_o=o,_n=name,**k):
        calls[_n]=calls.get(_n,0)+1
        return _o(self,*a,**k)
    setattr(torch.Tensor,name,w)
"""
    + LOOP
    + "c=dict(calls); print(sorted(c.items())); \n",
    differs="it counts calls of what it put in the place of PyTorch's own, and a watcher calls that too",
    skips=["stdout"],
)
case(
    "monkeypatch_time",
    STD
    + r"""
import time
time.perf_counter=lambda: 1e9
time.time=lambda: 0.0
"""
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "custom_fn_side",
    STD
    + r"""
cnt={'f':0,'b':0}
class Fn(torch.autograd.Function):
    @staticmethod
    def forward(ctx,a): cnt['f']+=1; ctx.save_for_backward(a); return a.sin()
    @staticmethod
    def backward(ctx,g): cnt['b']+=1; print('bw',cnt['b'],torch.rand(1).item()); return g*ctx.saved_tensors[0].cos()
for i in range(10):
    opt.zero_grad(); loss=F.cross_entropy(Fn.apply(m(x)),y); loss.backward(); opt.step()
print(cnt); fin(m)
""",
)
