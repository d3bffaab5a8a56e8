"""Scripts that train in threads, and that fork, spawn or replace themselves."""

from __future__ import annotations

from tests.hostile.case import LOOP, STD, Shelf

case = Shelf("processes")

case(
    "thread_enum",
    STD
    + r"""
import threading
for i in range(5):
    opt.zero_grad(); loss=F.cross_entropy(m(x),y); loss.backward(); opt.step()
print(threading.active_count(), [t.name for t in threading.enumerate()])
""",
    hides=r"\d \[.*\]",
    differs="it lists threads, and a watcher has one",
)
case(
    "mp_fork",
    STD
    + r"""
import torch.multiprocessing as mp
def w(q,k):
    torch.manual_seed(k); mm=mlp(); o=torch.optim.SGD(mm.parameters(),lr=.1)
    for i in range(10):
        o.zero_grad(); F.cross_entropy(mm(x),y).backward(); o.step()
    q.put((k,digest(mm)))
if __name__=='__main__':
    for i in range(4):
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    ctx=mp.get_context('fork'); q=ctx.SimpleQueue(); ps=[ctx.Process(target=w,args=(q,k)) for k in range(2)]
    [p.start() for p in ps]; r=sorted(q.get() for _ in ps); [p.join() for p in ps]; print(r,[p.exitcode for p in ps])
    for i in range(4):
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    fin(m)
""",
)
case(
    "mp_spawn",
    STD
    + r"""
import torch.multiprocessing as mp
def w(q,k):
    torch.manual_seed(k); mm=mlp(); xx,yy=data(); o=torch.optim.SGD(mm.parameters(),lr=.1)
    for i in range(10):
        o.zero_grad(); F.cross_entropy(mm(xx),yy).backward(); o.step()
    q.put((k,digest(mm)))
if __name__=='__main__':
    for i in range(4):
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    ctx=mp.get_context('spawn'); q=ctx.SimpleQueue(); ps=[ctx.Process(target=w,args=(q,k)) for k in range(2)]
    [p.start() for p in ps]; r=sorted(q.get() for _ in ps); [p.join() for p in ps]; print(r,[p.exitcode for p in ps])
    fin(m)
""",
)
case(
    "mp_forkserver",
    STD
    + r"""
import multiprocessing as mp
def sq(k): return k*k
if __name__=='__main__':
    with mp.get_context('forkserver').Pool(2) as p: print(p.map(sq,range(5)))
    with mp.get_context('spawn').Pool(1) as p: print(p.map(sq,range(5)))
""",
)
case(
    "concurrent_pool",
    STD
    + r"""
from concurrent.futures import ProcessPoolExecutor
def sq(k): return k*k
if __name__=='__main__':
    for i in range(4):
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    with ProcessPoolExecutor(2) as p: print(list(p.map(sq,range(5))))
    fin(m)
""",
)
case(
    "os_fork",
    STD
    + r"""
for i in range(5):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
sys.stdout.flush()
pid=os.fork()
if pid==0:
    for i in range(5):
        opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    print('child', digest(m)); sys.exit(3)   # (Python seeds `random` anew in a child)
_,st=os.waitpid(pid,0); print('child code',os.waitstatus_to_exitcode(st))
for i in range(5):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
fin(m)
""",
)
case(
    "os_fork_child_falls_off",
    STD
    + r"""
import atexit
atexit.register(lambda: print('atexit', flush=True))
for i in range(3):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
sys.stdout.flush()
pid=os.fork()
if pid: print('st',os.waitpid(pid,0)[1])
""",
)
case(
    "os_fork_child_raises",
    STD
    + r"""
for i in range(3):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
sys.stdout.flush()
pid=os.fork()
if pid: print('st',os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]))
else: raise ValueError('in child')
""",
)
case(
    "dataloader_workers",
    r"""
from torch.utils.data import DataLoader, TensorDataset
if __name__=='__main__':
    m=mlp(); x,y=data(64); opt=torch.optim.SGD(m.parameters(),lr=.1)
    for ep in range(2):
        for a,b in DataLoader(TensorDataset(x,y),batch_size=8,shuffle=True,num_workers=2):
            opt.zero_grad(); F.cross_entropy(m(a),b).backward(); opt.step()
    fin(m)
""",
)
case(
    "execv",
    STD
    + r"""
if len(sys.argv)>1: print('second', sys.argv); sys.exit(6)
for i in range(5):
    opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
sys.stdout.flush(); os.execv(sys.executable,[sys.executable,__file__,'again'])
""",
)
case(
    "backward_thread",
    STD
    + r"""
import threading
for i in range(10):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); t=threading.Thread(target=l.backward); t.start(); t.join(); opt.step(); losses.append(l.item())
fin(m,losses)
""",
)
case(
    "step_in_thread",
    STD
    + r"""
import threading
for i in range(10):
    opt.zero_grad(); l=F.cross_entropy(m(x),y); l.backward(); t=threading.Thread(target=opt.step); t.start(); t.join(); losses.append(l.item())
with torch.device('meta'): print(torch.ones(1).device)
fin(m,losses)
""",
)
case(
    "thread_unjoined",
    STD
    + """
import threading
def w():
    for i in range(200): opt.zero_grad(); F.cross_entropy(m(x),y).backward(); opt.step()
    fin(m)
threading.Thread(target=w).start()
""",
)
case(
    "ddp_gloo",
    r"""
import torch.distributed as dist
os.environ.update(MASTER_ADDR='127.0.0.1',MASTER_PORT=os.environ.get('MP','29611')); dist.init_process_group('gloo',rank=0,world_size=1)
m=nn.parallel.DistributedDataParallel(mlp()); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
"""
    + LOOP
    + "dist.destroy_process_group(); fin(m,losses)\n",
)
case(
    "dataparallel_shared",
    r"""
m=mlp(); m.share_memory(); x,y=data(); opt=torch.optim.SGD(m.parameters(),lr=.1); losses=[]
m[2].weight=m[0].weight
"""
    + LOOP
    + "fin(m,losses)\n",
)
