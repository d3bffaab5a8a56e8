"""Ways of training: what an ordinary script does, and what it rarely does."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("training")

case(
    "requires_grad_toggle",
    STD
    + r"""
for i in range(24):
    for k,p in enumerate(m.parameters()): p.requires_grad_((i//4+k)%2==0 or k==7)
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "optimizer_swap",
    STD
    + r"""
for i in range(24):
    if i==8: opt=torch.optim.Adam(m.parameters(),lr=.01)
    if i==12: opt.param_groups[0]['lr']=.1
    if i==14: m.append(nn.Linear(2,2)); opt.add_param_group({'params':m[-1].parameters()})
    if i==16: opt=torch.optim.LBFGS(m.parameters(),lr=.1,max_iter=4)
    def c():
        opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); return l
    losses.append(float(opt.step(c)))
fin(m,losses)
""",
)
case(
    "retain_twice",
    STD
    + r"""
for i in range(12):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(retain_graph=True); l.backward(); opt.step(); losses.append(digest([p.grad for p in m.parameters()]))
fin(m,losses)
""",
)
case(
    "double_backward",
    STD
    + r"""
for i in range(12):
    opt.zero_grad(); xx=x.clone().requires_grad_(); l=F.cross_entropy(m(xx),y); g,=torch.autograd.grad(l,xx,create_graph=True); (l+g.pow(2).sum()).backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "functional_grad_manual",
    STD
    + r"""
ps=list(m.parameters())
for i in range(12):
    gs=torch.autograd.grad(F.cross_entropy(m(x),y),ps)
    with torch.no_grad():
        for p,g in zip(ps,gs): p-=.1*g
fin(m)
""",
)
case(
    "checkpoint",
    STD
    + r"""
from torch.utils.checkpoint import checkpoint
d=nn.Dropout(.5); calls=[0]
def blk(a): calls[0]+=1; return d(m(a))
for i in range(12):
    opt.zero_grad(); l=F.cross_entropy(checkpoint(blk,x,use_reentrant=bool(i%2)) if i%2==0 else checkpoint(blk,x.requires_grad_(),use_reentrant=True),y); l.backward(); opt.step(); losses.append(l.item())
print(calls); fin(m,losses)
""",
)
case(
    "batchnorm",
    r"""
m=nn.Sequential(nn.Linear(8,8),nn.BatchNorm1d(8),nn.ReLU(),nn.Linear(8,2)); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
"""
    + LOOP
    + "m.eval(); fin(m,losses,m(x))\n",
)
case(
    "spectral_norm",
    r"""
m=nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8,8)),nn.ReLU(),nn.utils.parametrizations.weight_norm(nn.Linear(8,2))); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
"""
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "lstm",
    r"""
m=nn.LSTM(8,8,2,dropout=.3); h=nn.Linear(8,2); x=torch.randn(10,4,8); y=torch.randint(2,(4,)); opt=torch.optim.Adam([*m.parameters(),*h.parameters()]); losses=[]
for i in range(15):
    opt.zero_grad(); o,_=m(x); l=F.cross_entropy(h(o[-1]),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,h,losses)
""",
)
case(
    "transformer",
    r"""
m=nn.TransformerEncoder(nn.TransformerEncoderLayer(8,2,16,batch_first=True),2); h=nn.Linear(8,2); x=torch.randn(4,6,8); y=torch.randint(2,(4,)); opt=torch.optim.Adam([*m.parameters(),*h.parameters()]); losses=[]
for i in range(12):
    opt.zero_grad(); l=F.cross_entropy(h(m(x).mean(1)),y); l.backward(); opt.step(); losses.append(l.item())
    m.eval()
    with torch.no_grad(): losses.append(digest(m(x)))
    m.train()
fin(m,h,losses)
""",
)
case(
    "rnn_manual_dropout",
    r"""
m=nn.GRU(8,8,2,dropout=.4,bidirectional=True,batch_first=True); x=torch.randn(4,12,8); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
for i in range(12):
    opt.zero_grad(); o,_=m(x); l=o.pow(2).mean(); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "sdpa_dropout",
    r"""
q=nn.Linear(8,24); x=torch.randn(2,2,6,8); opt=torch.optim.SGD(q.parameters(),lr=.1); losses=[]
for i in range(12):
    a,b,c=q(x).chunk(3,-1); o=F.scaled_dot_product_attention(a,b,c,dropout_p=.3,is_causal=True); l=o.pow(2).mean(); opt.zero_grad(); l.backward(); opt.step(); losses.append(l.item())
fin(q,losses)
""",
)
case(
    "amp",
    STD
    + r"""
sc=torch.amp.GradScaler('cpu')
for i in range(12):
    opt.zero_grad()
    with torch.autocast('cpu',dtype=torch.bfloat16): l=F.cross_entropy(m(x),y)
    sc.scale(l).backward(); sc.unscale_(opt); nn.utils.clip_grad_norm_(m.parameters(),1.); sc.step(opt); sc.update(); losses.append(l.item())
print(sc.state_dict()); fin(m,losses)
""",
)
case(
    "custom_opt_nosuper",
    STD
    + r"""
class O:
    def __init__(s,p): s.p=list(p)
    def zero_grad(s):
        for p in s.p: p.grad=None
    def step(s):
        with torch.no_grad():
            for p in s.p: p-=.1*p.grad
opt=O(m.parameters())
"""
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "huge_loop",
    STD.replace("mlp()", "nn.Linear(8,2)")
    + "for i in range(20000):\n    opt.zero_grad(set_to_none=False); l=F.cross_entropy(m(x),y); l.backward(); opt.step()\nfin(m)\n",
    timeout=400,
)
case(
    "two_optimizers_on_one_forward",
    r"""
import weakref
G=mlp(out=8); D=mlp(); og=torch.optim.Adam(G.parameters(),1e-3); od=torch.optim.SGD(D.parameters(),.1); losses=[]; refs=[]
class Held: pass
for i in range(24):
    fake=G(torch.randn(16,8)); held=Held(); fake.grad_fn.metadata['held']=held; refs.append(weakref.ref(held)); del held
    ld=F.cross_entropy(D(fake.detach()),torch.zeros(16,dtype=torch.long)); od.zero_grad(); ld.backward(); od.step()
    lg=F.cross_entropy(D(fake),torch.ones(16,dtype=torch.long)); og.zero_grad(); lg.backward(); og.step(); losses.append((ld.item(),lg.item()))
fin(G,D,losses)
""",
)
case(
    "many_optimizers",
    r"""
ms=[nn.Linear(4,1) for _ in range(200)]; os_=[torch.optim.SGD(q.parameters(),lr=.1) for q in ms]; x=torch.randn(4,4)
for i in range(3):
    for q,o in zip(ms,os_): o.zero_grad(); q(x).pow(2).mean().backward(); o.step()
fin([list(q.parameters()) for q in ms])
""",
)
case(
    "new_optimizer_each_step",
    STD
    + r"""
for i in range(200):
    opt=torch.optim.SGD(m.parameters(),lr=.1); opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
fin(m)
""",
)
case(
    "many_models",
    r"""
import gc, weakref
refs=[]
for k in range(60):
    m=mlp(); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); refs.append(weakref.ref(m[0].weight))
    for i in range(3): opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
gc.collect(); print(sum(r() is not None for r in refs)); fin(m)
""",
)
case(
    "grad_accum",
    STD
    + r"""
for i in range(40):
    l=F.cross_entropy(m(x),y)/4; l.backward(); losses.append(l.item())
    if i%4==3: opt.step(); opt.zero_grad()
fin(m,losses)
""",
)
case(
    "optstep_returns",
    STD
    + r"""
for i in range(5):
    def c():
        opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); return l
    r=opt.step(c); print(type(r), repr(r))
""",
)
case(
    "tensor_print_repr",
    STD
    + r"""
for i in range(3):
    opt.zero_grad(); h=m(x); l=F.cross_entropy(h,y); print(h[0],l,l.grad_fn.name(), m[0].weight.grad is None); l.backward(); opt.step(); print(m[0].weight.grad[0])
""",
)
case(
    "version_counters",
    STD
    + r"""
for i in range(6):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); opt.step(); print([p._version for p in m.parameters()], x._version, l._version, m[0].weight.grad._version)
""",
)
case(
    "grad_identity",
    STD
    + r"""
for i in range(6):
    opt.zero_grad(set_to_none=False); l=F.cross_entropy(m(x),y); l.backward(); ids=[id(p.grad) for p in m.parameters()]; ptr=[p.data_ptr() for p in m.parameters()]; opt.step(); print(ids==[id(p.grad) for p in m.parameters()], ptr==[p.data_ptr() for p in m.parameters()], l.grad_fn is not None, [p.is_leaf for p in m.parameters()])
""",
)
case(
    "seq_numbers",
    STD
    + r"""
for i in range(6):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); print(l.grad_fn._sequence_nr()); l.backward(); opt.step()
""",
)
case(
    "lambda_loss",
    STD
    + r"""
lf=lambda o,y:(lambda z: -(z.gather(1,y[:,None])).mean())(o.log_softmax(1))
for i in range(10): (opt.zero_grad(), lf(m(x),y).backward(), opt.step())
fin(m)
""",
)
