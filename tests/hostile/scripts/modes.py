"""Scripts with modes, tensor subclasses and default devices: none of theirs may see a call of ours."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("modes")

case(
    "subclass",
    r"""
class T(torch.Tensor):
    n=0
    @classmethod
    def __torch_function__(cls,func,types,args=(),kwargs=None):
        T.n+=1
        return super().__torch_function__(func,types,args,kwargs or {})
"""
    + STD
    + r"""
x=x.as_subclass(T)
for i in range(12):
    opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward(); opt.step(); losses.append(loss.item())
print(T.n); fin(m,losses)
""",
)
case(
    "subclass_param",
    r"""
class P(nn.Parameter):
    @classmethod
    def __torch_function__(cls,func,types,args=(),kwargs=None):
        LOG.append(getattr(func,'__name__',str(func)))
        return super().__torch_function__(func,types,args,kwargs or {})
LOG=[]
"""
    + STD
    + r"""
w=P(torch.randn(2,2)*.1)
opt=torch.optim.SGD([*m.parameters(),w],lr=.1)
for i in range(12):
    opt.zero_grad(); loss=F.cross_entropy(m(x)@w,y); loss.backward(); opt.step(); losses.append(loss.item())
print(len(LOG),digest(LOG)); fin(m,losses)
""",
)
case(
    "torch_function_class",
    STD
    + r"""
class W:
    log=[]
    def __init__(s,t): s.t=t
    @classmethod
    def __torch_function__(cls,func,types,args=(),kwargs=None):
        W.log.append(func.__name__)
        un=lambda a: a.t if isinstance(a,W) else a
        r=func(*[un(a) for a in args],**{k:un(v) for k,v in (kwargs or {}).items()})
        return W(r) if isinstance(r,torch.Tensor) else r
for i in range(12):
    opt.zero_grad(); h=W(x)
    h=F.linear(h,m[0].weight,m[0].bias); h=torch.tanh(h); h=F.linear(h,m[-1].weight,m[-1].bias)
    loss=F.cross_entropy(h,y).t; loss.backward(); opt.step()
print(len(W.log),digest(W.log)); fin(m)
""",
)
case(
    "user_function_mode",
    STD
    + r"""
from torch.overrides import TorchFunctionMode
class M(TorchFunctionMode):
    log=[]
    def __torch_function__(s,func,types,args=(),kwargs=None):
        M.log.append(getattr(func,'__name__',str(func))); return func(*args,**(kwargs or {}))
for i in range(12):
    with M():
        opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward()
        if i%2: opt.step()
    if not i%2: opt.step()
print(len(M.log),digest(M.log)); fin(m)
""",
)
case(
    "user_dispatch_mode",
    STD
    + r"""
from torch.utils._python_dispatch import TorchDispatchMode
class M(TorchDispatchMode):
    log=[]
    def __torch_dispatch__(s,func,types,args=(),kwargs=None):
        M.log.append(str(func)); return func(*args,**(kwargs or {}))
for i in range(12):
    with M():
        opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward(); opt.step()
print(len(M.log),digest(M.log)); fin(m)
""",
)
case(
    "mode_stack_len",
    STD
    + r"""
for i in range(6):
    opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward(); opt.step()
    print(torch._C._len_torch_function_stack(), torch.overrides.is_tensor_method_or_property(torch.Tensor.add), len(torch.nn.modules.module._global_forward_hooks))
""",
    hides=r"(?m)^\d \w+ \d$",
    differs="it counts modes and global hooks, and a watcher's are among them",
)
case(
    "set_default_device",
    r"""
torch.set_default_device('cpu')
"""
    + STD
    + LOOP
    + "print(torch.get_default_device()); torch.set_default_device(None); print(torch.get_default_device()); fin(m,losses)\n",
)
case(
    "default_device_toggle",
    STD
    + r"""
for i in range(12):
    torch.set_default_device('meta' if i%2 else 'cpu'); z=torch.zeros(2); print(z.device)
    torch.set_default_device('cpu')
    opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward(); opt.step()
with torch.device('meta'): print(torch.empty(1).device)
print(torch.empty(1).device); fin(m)
""",
)
case(
    "inference_mode",
    STD
    + r"""
for i in range(12):
    with torch.inference_mode():
        e=m(x); print(e.is_inference(), digest(e))
    with torch.no_grad(): e2=m(x).clone()
    opt.zero_grad(); loss=F.cross_entropy(m(x),y)+(e2*0).sum(); loss.backward(); opt.step()
fin(m)
""",
)
case(
    "grad_mode_left",
    "torch.set_grad_enabled(False)\n"
    + STD
    + r"""
with torch.enable_grad():
"""
    + LOOP.replace("\n", "\n ").rstrip()
    + "\nprint(torch.is_grad_enabled()); fin(m,losses)\n",
)
case(
    "contextmanager_leak",
    STD
    + r"""
g=torch.no_grad(); g.__enter__()
with torch.enable_grad():
    for i in range(4): opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step()
d=torch.device('cpu'); d.__enter__()
for i in range(4):
    with torch.enable_grad(): opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step()
d.__exit__(None,None,None); print(torch._C._len_torch_function_stack()==torch._C._len_torch_function_stack()); fin(m)
""",
)
case(
    "device_ctx_spanning_steps",
    STD
    + r"""
for i in range(6):
    with torch.device('cpu'):
        opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step(); z=torch.empty(1)
    print(z.device)
for i in range(6):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward()
    with torch.device('meta'): opt.step(); z=torch.empty(1)
    print(z.device, torch.empty(1).device)
fin(m)
""",
)
case(
    "evil_loss_tensor",
    STD
    + r"""
class L(torch.Tensor):
    def __float__(s): raise RuntimeError('float')
    def item(s): print('ITEM'); return super().item()
    def detach(s): print('DETACH'); return super().detach()
    def numel(s): print('NUMEL'); return super().numel()
    def backward(s,*a,**k): print('BW'); return super().backward(*a,**k)
for i in range(8):
    opt.zero_grad(); l=F.cross_entropy(m(x),y).as_subclass(L); l.backward(); opt.step()
fin(m)
""",
)
