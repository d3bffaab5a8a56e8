"""Scripts and the ways they end: exit codes, exceptions, what is printed of them, `atexit`."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("endings")

case(
    "atexit",
    r"""
import atexit
atexit.register(lambda: print('A'))
"""
    + STD
    + LOOP
    + r"""
atexit.register(lambda: fin(m,losses))
print('end')
""",
)
case(
    "atexit_code",
    r"""
import atexit
atexit.register(lambda: os._exit(5))
"""
    + STD
    + LOOP,
)
case(
    "atexit_raises",
    r"""
import atexit
def bad(): raise RuntimeError('in atexit')
atexit.register(bad)
"""
    + STD
    + LOOP,
)
case(
    "sysexit7",
    STD
    + r"""
def a():
    def b():
        def c(): sys.exit(7)
        c()
    b()
for i in range(5):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    if i==3: a()
""",
)
case("sysexit_str", STD + LOOP + "sys.exit('a message')\n")
case("sysexit_big", STD + LOOP + "sys.exit(300)\n")
case("sysexit_neg", STD + LOOP + "sys.exit(-1)\n")
case("sysexit_huge", STD + LOOP + "sys.exit(2**70)\n")
case("sysexit_bool", STD + LOOP + "sys.exit(True)\n")
case("sysexit_tuple", STD + LOOP + "sys.exit((1,2))\n")
case("sysexit_bytes_none", STD + LOOP + "sys.exit(b'x')\n")
case("sysexit_class_raise", STD + LOOP + "raise SystemExit\n")
case("os_exit", STD + LOOP + "print('x',flush=True); os._exit(4)\n")
case("os_abort", STD + LOOP + "print('x',flush=True); os.abort()\n")
case(
    "exception",
    STD
    + r"""
def f(z):
    opt.zero_grad(); l=F.cross_entropy(m(z),y); l.backward(); opt.step(); return l
f(x); f(x); f(torch.randn(16,9))
""",
)
case(
    "exception_in_backward",
    STD
    + r"""
class Fn(torch.autograd.Function):
    @staticmethod
    def forward(ctx,a): return a*1
    @staticmethod
    def backward(ctx,g): raise ValueError('in backward ü')
opt.zero_grad(); F.cross_entropy(Fn.apply(m(x)),y).backward()
""",
)
case(
    "exception_in_optimizer",
    STD
    + r"""
class O(torch.optim.Optimizer):
    def __init__(s,p): super().__init__(p,{})
    def step(s,closure=None): raise KeyError('opt')
o=O(m.parameters()); F.cross_entropy(m(x),y).backward(); o.step()
""",
)
case(
    "exception_chain",
    STD
    + r"""
try:
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step(); m(torch.randn(3,3))
except RuntimeError as e:
    raise ValueError('outer') from e
""",
)
case(
    "exception_group",
    STD
    + r"""
es=[]
for k in range(2):
    try: m(torch.randn(3,3+k))
    except RuntimeError as e: es.append(e)
raise ExceptionGroup('g',es)
""",
)
case(
    "exception_hook",
    STD
    + r"""
def hook(t,v,tb):
    import traceback; print('HOOK',t.__name__, [f.name for f in traceback.extract_tb(tb)])
sys.excepthook=hook
F.cross_entropy(m(x),y).backward(); opt.step(); 1/0
""",
)
case(
    "traceback_format_inside",
    STD
    + r"""
import traceback
for i in range(3):
    try:
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step(); m(torch.randn(2,3))
    except RuntimeError: traceback.print_exc()
""",
)
case(
    "backward_twice_error",
    STD
    + r"""
l=F.cross_entropy(m(x),y); l.backward(); opt.step()
l.backward()
""",
)
case(
    "inplace_error",
    STD
    + r"""
h=m[0](x); z=h.sigmoid(); l=z.pow(2).sum(); z.add_(1); l.backward()
""",
)
