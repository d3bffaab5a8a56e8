"""One hostile script: its text, what stands around it, and what may differ when it is watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Each script prints a digest of its weights, its losses and its random states: `fin(model, losses)`.
HEAD = r"""
import sys, os, hashlib, random
import torch
from torch import nn
import torch.nn.functional as F
torch.set_num_threads(1)
torch.manual_seed(0); random.seed(0)
def digest(*objs):
    h = hashlib.sha256()
    def add(o):
        if isinstance(o, torch.Tensor):
            o = o.detach()
            if o.is_sparse: o = o.to_dense()
            if o.is_complex(): o = torch.view_as_real(o)
            h.update(str(o.dtype).encode()+str(tuple(o.shape)).encode()); h.update(o.to(torch.float64).contiguous().numpy().tobytes())
        elif isinstance(o, (list, tuple)): [add(x) for x in o]
        elif isinstance(o, dict): [(h.update(str(k).encode()), add(v)) for k, v in o.items()]
        elif isinstance(o, nn.Module): add(dict(o.state_dict()))
        else: h.update(repr(o).encode())
    for o in objs: add(o)
    return h.hexdigest()[:16]
def fin(*objs):
    print('DIGEST', digest(*objs), 'RNG', hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:12], hashlib.sha256(repr(random.getstate()).encode()).hexdigest()[:12])
def mlp(d=8, n=3, act=nn.Tanh, out=2):
    L=[]
    for _ in range(n): L += [nn.Linear(d,d), act()]
    return nn.Sequential(*L, nn.Linear(d,out))
def data(n=16, d=8, c=2):
    return torch.randn(n,d), torch.randint(c,(n,))
"""
STD = "m=mlp(); x,y=data(); opt=torch.optim.SGD(m.parameters(), lr=0.1); losses=[]\n"
LOOP = r"""
for i in range(30):
    opt.zero_grad(); loss = F.cross_entropy(m(x), y); loss.backward(); opt.step(); losses.append(loss.item())
"""


@dataclass(frozen=True)
class Seen:
    """What a run left: its exit code as a shell tells it, its streams, its files; of a watched one the verdict too."""

    code: int | None  # None: it had to be killed
    stdout: str
    stderr: str
    files: Mapping[str, str]  # relative path → digest of the content
    verdict: Mapping[str, Any] | None = None
    seconds: float = 0.0


# Says in words what does not hold of (plain, watched); None where it holds.
Check = Callable[[Seen, Seen], str | None]


@dataclass(frozen=True)
class Case:
    """A script and how it is run."""

    name: str
    kind: str
    source: str
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # put beside the script
    path: str = "script.py"
    module: str | None = None  # run with -m
    encoding: str = "utf-8"
    prefix: str = ""
    crlf: bool = False
    readonly: bool = False
    timeout: float = 120.0
    options: tuple[str, ...] = ()  # of `gradientflow run`
    relative: bool = False  # --out and --json are relative paths, in the script's own folder
    differs: str = ""  # why a watched run cannot look the same
    hides: str = ""  # a pattern: what it matches in the streams is not compared
    skips: frozenset[str] = frozenset()  # what is not compared at all, of code, stdout, stderr, files
    holds: Check | None = None
    cold: bool = False  # means something only in an interpreter of its own

    @property
    def text(self) -> bytes:
        """The script as it lies on disk."""
        whole = self.prefix + self.source
        return (whole.replace("\n", "\r\n") if self.crlf else whole).encode(self.encoding)

    def lay_out(self, folder: Path) -> None:
        """Write the script and the files around it into a folder."""
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        file = folder / (self.path if self.module is None or self.path != "script.py" else f"{self.module}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.text)
        if self.readonly:
            folder.chmod(0o555)


class Shelf:
    """Collects the cases of one kind: `case = Shelf("hooks")`, then `case(name, source, …)`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.cases: dict[str, Case] = {}

    def __call__(self, name: str, source: str, *, head: bool = True, **how: Any) -> None:
        if name in self.cases:
            raise ValueError(f"two scripts are called {name}")
        for key in ("args", "options"):
            how[key] = tuple(how.get(key, ()))
        how["skips"] = frozenset(how.get("skips", ()))
        self.cases[name] = Case(name, self.kind, (HEAD if head else "") + source, **how)
