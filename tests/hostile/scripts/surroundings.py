"""Scripts and what is around them: arguments, input, files beside them, encodings, folders, the environment."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("surroundings")

case(
    "stdin",
    STD
    + r"""
n=int(input('how many? ')); rest=sys.stdin.read()
for i in range(n):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
print(n,repr(rest)); fin(m)
""",
    stdin=b"7\nmore\nlines",
)
case(
    "argparse",
    STD
    + r"""
import argparse
p=argparse.ArgumentParser(); p.add_argument('--out'); p.add_argument('-q',action='store_true'); p.add_argument('--replay',action='store_true'); p.add_argument('rest',nargs='*'); a=p.parse_args(); print(a, sys.argv[1:], p.prog)
"""
    + LOOP
    + "fin(m,losses)\n",
    args=["--out", "x y", "-q", "--replay", "--", "--weird", "", "ü$'"],
)
case(
    "argparse_help",
    r"""
import argparse
p=argparse.ArgumentParser(); p.add_argument('--lr'); p.parse_args()
""",
    args=["--help"],
)
case(
    "argparse_err",
    r"""
import argparse
p=argparse.ArgumentParser(); p.add_argument('--lr',type=float); p.parse_args()
""",
    args=["--lr", "abc"],
)
case(
    "module_rel",
    "from . import net\nfrom .net import build\nprint(__name__,__package__,__spec__.name, __file__.endswith('train.py'))\nm=build(nn); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]\n"
    + LOOP
    + "fin(m,losses)\n",
    module="pkg.sub.train",
    path="pkg/sub/train.py",
    files={
        "pkg/__init__.py": 'print("init pkg")\n',
        "pkg/sub/__init__.py": "",
        "pkg/sub/net.py": "def build(nn): return nn.Sequential(nn.Linear(8,8),nn.ReLU(),nn.Linear(8,2))\n",
    },
)
case(
    "module_main",
    "print(__name__,__package__,__spec__.name, sys.argv)\n" + STD + LOOP + "fin(m,losses)\n",
    module="pkg2",
    path="pkg2/__main__.py",
    files={"pkg2/__init__.py": ""},
    args=["a", "-m"],
)
case(
    "dunder",
    r"""
print(__name__, os.path.basename(__file__), __doc__, __package__, __spec__, __loader__ is not None, sorted(k for k in globals() if k.startswith('__')))
print(sys.path[0]==os.path.dirname(os.path.abspath(__file__)), sys.argv, os.path.isabs(__file__), __file__==sys.argv[0])
import __main__; print(__main__.__dict__ is globals())
""",
)
case(
    "dunder2",
    r"""
print(type(__loader__).__name__, __annotations__ if '__annotations__' in globals() else None, sys.flags.interactive, sys.orig_argv[-1])
v: int = 3
print(__annotations__)
""",
)
case(
    "latin1",
    "s='caf\xe9'\nprint(len(s), ascii(s))\n" + STD + LOOP + "fin(m,losses)\n",
    encoding="latin-1",
    prefix="# -*- coding: latin-1 -*-\n",
)
case("bom", STD + LOOP + "fin(m,losses)\n", encoding="utf-8-sig")
case("crlf", STD + LOOP + "fin(m,losses)\n", crlf=True)
case("readonly_dir", STD + LOOP + "fin(m,losses)\n", readonly=True)
case(
    "self_delete",
    STD
    + r"""
os.unlink(__file__)
"""
    + LOOP
    + "fin(m,losses)\n1/0\n",
)
case(
    "self_rewrite",
    STD
    + r"""
open(__file__,'w').write('x=1\n'*3)
"""
    + LOOP
    + "fin(m,losses)\nraise ValueError\n",
)
case(
    "chdir",
    STD
    + r"""
os.makedirs('deep/er',exist_ok=True); os.chdir('deep/er')
"""
    + LOOP
    + "print(sorted(os.listdir('.')), os.path.relpath(os.getcwd(),os.path.dirname(os.path.dirname(os.getcwd())))); fin(m,losses)\n",
)
case(
    "rmcwd",
    STD
    + r"""
os.makedirs('gone'); os.chdir('gone'); os.rmdir(os.getcwd())
"""
    + LOOP
    + "fin(m,losses)\n",
)
case(
    "shadow_modules",
    STD + "import typer, rich, msgspec, html; print(typer.X, rich.X, msgspec.X, html.X)\n" + LOOP + "fin(m,losses)\n",
    files={"typer.py": "X=3\n", "rich.py": "X=4\n", "msgspec.py": "X=5\n", "html.py": "X=6\n"},
)
_BROKEN = "beside these files PyTorch cannot be imported; plain it fails there, watched where they are used"
case(
    "shadow_needed_modules",
    STD + "import statistics, queue; print(statistics.X, queue.X)\n" + LOOP + "fin(m,losses)\n",
    files={"statistics.py": "X=1\n", "queue.py": "X=2\n", "sqlite3.py": "X=6\n"},
    skips=["stderr"],
    differs=_BROKEN,
)
case(
    "shadow_json",
    STD + "import json,datetime; print(getattr(json,'X',0),getattr(datetime,'X',0))\n" + LOOP + "fin(m,losses)\n",
    files={"json.py": "X=1\n", "datetime.py": "X=9\n"},
    skips=["stderr"],
    differs=_BROKEN,
)
case("empty_script", "", head=False)
case("no_torch", "print('hi'); import sys; sys.exit(2)\n", head=False)
case(
    "locale_env",
    "import locale; print(locale.getlocale(), sys.stdout.encoding, sys.getdefaultencoding(), sys.flags)\n",
    env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
)
case(
    "pyflags",
    "print(sys.flags.optimize, __debug__, sys.dont_write_bytecode)\n",
    env={"PYTHONOPTIMIZE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
)
