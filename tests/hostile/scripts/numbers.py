"""Scripts whose numbers are easily disturbed: random states, defaults, and odd kinds of numbers."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("numbers")

case(
    "dropout",
    "m=nn.Sequential(nn.Linear(8,8),nn.ReLU(),nn.Dropout(0.5),nn.Linear(8,2)); x,y=data(); opt=torch.optim.Adam(m.parameters()); losses=[]\n"
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "own_rng",
    "g=torch.Generator().manual_seed(3)\n"
    + STD
    + r"""
for i in range(30):
    idx=torch.randperm(16,generator=g)[:8]; opt.zero_grad(); loss=F.cross_entropy(m(x[idx]+0.1*torch.randn(8,8,generator=g)),y[idx]); loss.backward(); opt.step(); losses.append(loss.item()); random.random(); torch.rand(3)
fin(m,losses,g.get_state())
""",
)
case(
    "seed_in_loop",
    STD
    + r"""
d=nn.Dropout(0.3)
for i in range(30):
    torch.manual_seed(i%3); opt.zero_grad(); loss=F.cross_entropy(m(d(x)),y); loss.backward(); opt.step(); losses.append(loss.item())
    print(i, hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:10])
fin(m,losses)
""",
)
case(
    "print_rng",
    STD + LOOP + "print(torch.get_rng_state().tolist()[:64], torch.initial_seed()); print(random.getstate()[1][:5])\n",
)
case(
    "numpy_rng",
    "import numpy as np\nnp.random.seed(1); rs=np.random.default_rng(2)\n"
    + STD
    + LOOP
    + "print(np.random.get_state()[1][:4], rs.random(), np.geterr()); np.seterr(all='raise'); fin(m,losses)\n",
)
case("np_seterr", "import numpy as np\nnp.seterr(all='raise')\n" + STD + "x=x*1e30\n" + LOOP + "fin(m,losses)\n")
case(
    "decimal_ctx",
    "import decimal; decimal.getcontext().prec=3\n" + STD + LOOP + "print(decimal.Decimal(1)/3); fin(m,losses)\n",
)
case(
    "set_flush_denormal",
    "torch.set_flush_denormal(True)\n" + STD + LOOP + "print(torch.tensor([1e-40]).item()); fin(m,losses)\n",
)
case(
    "deterministic",
    "torch.use_deterministic_algorithms(True)\n"
    + STD
    + LOOP
    + "print(torch.are_deterministic_algorithms_enabled()); fin(m,losses)\n",
)
case(
    "fill_uninit",
    "torch.use_deterministic_algorithms(True); torch.utils.deterministic.fill_uninitialized_memory=True\n"
    + STD
    + LOOP
    + "print(torch.empty(3)); fin(m,losses)\n",
)
case("anomaly", "torch.autograd.set_detect_anomaly(True)\n" + STD + LOOP + "fin(m,losses)\n")
case(
    "anomaly_nan",
    "torch.autograd.set_detect_anomaly(True)\n"
    + STD
    + r"""
w=nn.Parameter(torch.zeros(1)); opt=torch.optim.SGD([w],lr=.1)
for i in range(3):
    opt.zero_grad(); l=torch.sqrt(w*w).sum(); l.backward(); opt.step()
""",
)
case(
    "default_dtype_loop",
    STD
    + r"""
for i in range(8):
    torch.set_default_dtype(torch.float64 if i%2 else torch.float32); print(torch.ones(1).dtype)
    opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward(); opt.step()
fin(m)
""",
)
for _dtype in ("float64", "float16", "bfloat16"):
    case(
        f"dtype_{_dtype}",
        STD
        + f"m=m.to(torch.{_dtype}); x=x.to(torch.{_dtype}); opt=torch.optim.SGD(m.parameters(),lr=.1)\n"
        + LOOP
        + "fin(m,losses)\n",
    )
case(
    "max_nan",
    STD
    + r"""
for i in range(10):
    opt.zero_grad(); l=F.cross_entropy(m(x),y)
    if i==5: l=l*float('nan')
    l.backward(); opt.step(); losses.append(l.item())
print(losses[-1]); fin(m)
""",
)
case(
    "complex",
    r"""
w=nn.Parameter(torch.randn(4,4,dtype=torch.complex64)); opt=torch.optim.SGD([w],lr=.01); x=torch.randn(8,4,dtype=torch.complex64)
for i in range(20):
    opt.zero_grad(); l=(x@w).abs().pow(2).mean(); l.backward(); opt.step()
fin(w)
""",
)
case(
    "fp8_int_params",
    STD
    + r"""
m.register_parameter('ints', nn.Parameter(torch.arange(4),requires_grad=False)); m.register_parameter('b',nn.Parameter(torch.tensor([True]),requires_grad=False)); m.register_parameter('f8',nn.Parameter(torch.zeros(2).to(torch.float8_e4m3fn),requires_grad=False)); m.register_parameter('empty',nn.Parameter(torch.zeros(0)))
opt=torch.optim.SGD(m.parameters(),lr=.1)
"""
    + LOOP
    + "fin(list(m.parameters())[0],losses)\n",
)
case(
    "meta",
    r"""
m=mlp().to('meta'); x=torch.randn(4,8,device='meta'); opt=torch.optim.SGD(m.parameters(),lr=.1)
for i in range(6):
    opt.zero_grad(); l=m(x).pow(2).mean(); l.backward(); opt.step(); print(l.device)
""",
)
case(
    "nested",
    r"""
m=nn.Linear(8,4); opt=torch.optim.SGD(m.parameters(),lr=.1)
nt=torch.nested.nested_tensor([torch.randn(2,8),torch.randn(3,8)],layout=torch.jagged)
for i in range(6):
    opt.zero_grad(); o=m(nt); l=o.values().pow(2).mean(); l.backward(); opt.step(); print(repr(l.item()))
fin(m)
""",
)
case(
    "quantised",
    STD
    + r"""
import warnings; warnings.simplefilter('ignore')
q=torch.quantize_per_tensor(x,0.1,0,torch.qint8); fq=torch.fake_quantize_per_tensor_affine(x,0.1,0,-128,127)
for i in range(6):
    opt.zero_grad(); l=F.cross_entropy(m(q.dequantize())+m(torch.fake_quantize_per_tensor_affine(x,0.1,0,-128,127)),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "sparse_embed",
    r"""
m=nn.Sequential(nn.Embedding(50,8,sparse=True),nn.Flatten(),nn.Linear(24,2)); x=torch.randint(50,(16,3)); y=torch.randint(2,(16,))
o1=torch.optim.SparseAdam(m[0].parameters(),lr=.01); o2=torch.optim.SGD(m[2].parameters(),lr=.1)
for i in range(20):
    o1.zero_grad(); o2.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); print(m[0].weight.grad.is_sparse, m[0].weight.grad.is_coalesced(), m[0].weight.grad._nnz()); o1.step(); o2.step()
fin(m)
""",
)
case(
    "sparse_sgd",
    r"""
m=nn.Sequential(nn.Embedding(50,8,sparse=True),nn.Flatten(),nn.Linear(24,2)); x=torch.randint(50,(16,3)); y=torch.randint(2,(16,)); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
for i in range(20):
    opt.zero_grad(set_to_none=False); l=F.cross_entropy(m(x),y); l.backward(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "unseeded_hash",
    "print(hash('abc'))\n" + STD + LOOP + "fin(m,losses); print(list({'a','b','c','d'}))\n",
    env={"PYTHONHASHSEED": "7"},
)
