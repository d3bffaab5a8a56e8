"""Edits of the training loop: the idiom, the change, and the text that must come out, to the byte."""

from __future__ import annotations

import pytest

from gradientflow.records import Change, Step
from tests.depth.remedies.editing import FILE, at, edited, line_of, optimizer, replaced, run

LOOP = '''\
"""A loop."""
import torch
from torch import nn

net = nn.Linear(4, 1)
aux = nn.Linear(4, 1)
# the step size was found by hand
opt = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)  # keep me

for step in range(20):
    x = torch.randn(8, 4)

    loss = net(x).pow(2).mean()  # the objective
    loss.backward()
    opt.step()
'''


def made(source: str, change: Change, make: str = "torch.optim.SGD(", step: str = "opt.step(", **more):
    return edited(change, run(source, [optimizer(source, make, step, **more)]))


def after(source: str, change: Change, **more) -> str | None:
    found = made(source, change, **more)
    return found.after if found is not None else None


LOWER = Change("lower-step", "", settings={"factor": 0.1})

RATES = {
    "a literal": ("SGD(net.parameters(), lr=0.5)", ("lr=0.5)", "lr=0.05)"), ""),
    "by position": ("SGD(net.parameters(), 0.5)", (", 0.5)", ", 0.05)"), ""),
    "a constant": ("SGD(net.parameters(), lr=LR)", ("LR = 0.5", "LR = 0.05"), "LR = 0.5  # big\n"),
    "a power": ("SGD(net.parameters(), lr=LR)", ("LR = 10 ** -1", "LR = 0.01"), "LR = 10 ** -1\n"),
    "one of a tuple": ("SGD(net.parameters(), lr=LR)", ("3, 0.5", "3, 0.05"), "EPOCHS, LR = 3, 0.5\n"),
    "a table": ("SGD(net.parameters(), lr=cfg['lr'])", ("'lr': 0.5", "'lr': 0.05"), "cfg = {'lr': 0.5, 'n': 3}\n"),
    "a dict call": ("SGD(net.parameters(), lr=cfg['lr'])", ("lr=0.5,", "lr=0.05,"), "cfg = dict(lr=0.5, n=3)\n"),
    "an option": (
        "SGD(net.parameters(), lr=args.lr)",
        ("default=0.5", "default=0.05"),
        "p = ArgumentParser()\np.add_argument('--lr', type=float, default=0.5)\nargs = p.parse_args()\n",
    ),
    "a field of a class": ("SGD(net.parameters(), lr=C.lr)", ("lr: float = 0.5", "lr: float = 0.05"), "class C:\n    lr: float = 0.5\n"),
    "twice given": ("SGD(net.parameters(), lr=LR)", ("lr=LR)", "lr=LR * 0.1)"), "LR = 0.5\nLR = 0.6\n"),
    "computed": ("SGD(net.parameters(), lr=base / n)", ("lr=base / n)", "lr=(base / n) * 0.1)"), "base = f()\nn = g()\n"),
    "groups": (
        "SGD([{'params': net.parameters(), 'lr': 0.5}, {'params': aux.parameters(), 'lr': 0.2}], lr=0.1)",
        ("'lr': 0.5}, {'params': aux.parameters(), 'lr': 0.2}], lr=0.1)", "'lr': 0.05}, {'params': aux.parameters(), 'lr': 0.02}], lr=0.01)"),
        "",
    ),
    "not given": ("Adam(net.parameters())", ("Adam(net.parameters())", "Adam(net.parameters(), lr=0.01)"), ""),
    "over several lines": (
        "SGD(\n    net.parameters(),\n    lr=0.5,  # big\n)",
        ("    lr=0.5,  # big", "    lr=0.05,  # big"),
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_the_learning_rate_is_changed_where_it_is_written(name: str) -> None:
    call, pair, before = RATES[name]
    source = replaced(LOOP, ("SGD(net.parameters(), lr=0.5, momentum=0.9)", call), ("aux =", before + "aux ="))
    make = "torch.optim.Adam(" if "Adam" in call else "torch.optim.SGD("
    found = made(source, LOWER, make=make, name="Adam" if "Adam" in call else "SGD")
    assert found is not None
    assert found.after == replaced(source, pair)


def test_an_option_that_the_command_line_sets_is_multiplied_where_it_is_used() -> None:
    before = "p.add_argument('--lr', type=float, default=0.5)\nargs = p.parse_args()\naux ="
    source = replaced(LOOP, ("lr=0.5", "lr=args.lr"), ("aux =", before))
    seen = run(source, [optimizer(source, "torch.optim.SGD(", "opt.step(")], argv=["--lr=0.3"])
    found = edited(LOWER, seen)
    assert found is not None
    assert found.after == replaced(source, ("lr=args.lr", "lr=args.lr * 0.1"))


def test_only_the_optimizer_that_is_meant_is_touched() -> None:
    source = replaced(LOOP, ("\nfor step", "slow = torch.optim.Adam(aux.parameters(), lr=0.5)\n\nfor step"))
    first = optimizer(source, "torch.optim.SGD(", "opt.step(")
    second = optimizer(source, "torch.optim.Adam(", None, name="Adam", index=1)
    change = Change("lower-step", "", [at(source, "torch.optim.Adam(", "Adam")], {"factor": 0.1})
    found = edited(change, run(source, [first, second]))
    assert found is not None
    assert found.after == replaced(source, ("aux.parameters(), lr=0.5", "aux.parameters(), lr=0.05"))


def test_a_function_s_argument_is_changed_at_its_one_call_and_not_at_two() -> None:
    source = """\
import torch


def train(net, lr=0.1):
    opt = torch.optim.SGD(net.parameters(), lr=lr)
    opt.step()


train(net, lr=3.0)
"""
    assert after(source, LOWER) == replaced(source, ("lr=3.0", "lr=0.3"))
    default = replaced(source, ("train(net, lr=3.0)", "train(net)"))
    assert after(default, LOWER) == replaced(default, ("lr=0.1", "lr=0.01"))
    twice = source + "train(other, lr=1.0)\n"
    assert after(twice, LOWER) == replaced(twice, ("lr=lr)", "lr=lr * 0.1)"))


def test_a_rate_that_is_unpacked_is_not_guessed() -> None:
    source = replaced(LOOP, ("lr=0.5, momentum=0.9", "**options"))
    assert after(source, LOWER) is None


def test_a_rate_by_hand() -> None:
    source = """\
for step in range(9):
    loss.backward()
    with torch.no_grad():
        for p in params:
            p -= 0.3 * p.grad
            p.grad = None
"""
    found = edited(LOWER, run(source))
    assert found is not None
    assert found.after == replaced(source, ("0.3", "0.03"))
    bare = replaced(source, ("0.3 * p.grad", "p.grad"))
    assert edited(LOWER, run(bare)) is None


def test_a_schedule_that_lowers_the_rate_too_far_is_stepped_no_more() -> None:
    change = Change("raise-step", "", settings={"least": 0.5})
    source = replaced(
        LOOP,
        ("# keep me\n", "# keep me\nsched = torch.optim.lr_scheduler.StepLR(opt, 1)\n"),
        ("    opt.step()\n", "    opt.step()\n    sched.step()\n"),
    )
    found = made(source, change)
    assert found is not None
    assert found.after == replaced(source, ("    sched.step()\n", ""))
    assert "schedule" in found.note
    assert after(LOOP, change) is None  # no schedule
    assert after(source + "sched.step()\n", change) is None  # stepped twice
    alone = replaced(source, ("    sched.step()", "    if step % 2:\n        sched.step()"))
    assert after(alone, change) is None  # nothing would be left of the block


CLIP = Change("clip-gradient", "", settings={"max_norm": 1.0})


def test_clipping_goes_right_before_the_step() -> None:
    expected = replaced(LOOP, ("    opt.step()", "    nn.utils.clip_grad_norm_(net.parameters(), 1)\n    opt.step()"))
    assert after(LOOP, CLIP) == expected


def test_clipping_twice_is_refused() -> None:
    once = after(LOOP, CLIP)
    assert once is not None
    assert after(once, CLIP) is None


def test_clipping_in_another_function_takes_the_optimizer_s_own_parameters() -> None:
    source = """\
import torch


def step(opt, loss):
\tloss.backward()
\topt.step()


def main():
\topt = torch.optim.SGD(net.parameters(), lr=0.1)
\tstep(opt, loss)
"""
    wanted = '\ttorch.nn.utils.clip_grad_norm_([p for g in opt.param_groups for p in g["params"]], 1)\n\topt.step()'
    assert after(source, CLIP) == replaced(source, ("\topt.step()", wanted))


def test_a_generator_of_parameters_is_not_used_a_second_time() -> None:
    source = replaced(
        LOOP,
        ("opt = torch", "params = filter(lambda p: p.requires_grad, net.parameters())\nopt = torch"),
        ("SGD(net.parameters()", "SGD(params"),
    )
    found = after(source, CLIP)
    assert found is not None
    assert 'clip_grad_norm_([p for g in opt.param_groups for p in g["params"]], 1)' in found
    kept = replaced(source, ("filter(lambda p: p.requires_grad, net.parameters())", "list(net.parameters())"))
    found = after(kept, CLIP)
    assert found is not None
    assert "clip_grad_norm_(params, 1)" in found


def test_clipping_with_a_gradient_scaler_and_in_a_closure() -> None:
    scaled = replaced(LOOP, ("opt.step()", "scaler.step(opt)"))
    found = after(scaled, CLIP, step="scaler.step(")
    assert found == replaced(
        scaled,
        ("    scaler.step(opt)", "    scaler.unscale_(opt)\n    nn.utils.clip_grad_norm_(net.parameters(), 1)\n    scaler.step(opt)"),
    )  # fmt: skip
    closed = replaced(
        LOOP,
        ("    loss = net(x)", "    def closure():\n        loss = net(x)"),
        ("    loss.backward()", "        loss.backward()\n        return loss"),
        ("opt.step()", "opt.step(closure)"),
    )
    found = after(closed, CLIP)
    assert found == replaced(
        closed, ("loss.backward()\n", "loss.backward()\n        nn.utils.clip_grad_norm_(net.parameters(), 1)\n")
    )


def test_clearing_gradients_goes_before_backward() -> None:
    change = Change("zero-grad", "")
    assert after(LOOP, change) == replaced(LOOP, ("    loss.backward()", "    opt.zero_grad()\n    loss.backward()"))
    two = replaced(LOOP, ("    loss.backward()", "    (0.5 * loss).backward(retain_graph=True)\n    loss.backward()"))
    assert after(two, change) == replaced(two, ("    (0.5", "    opt.zero_grad()\n    (0.5"))
    one_line = replaced(LOOP, ("    loss.backward()\n    opt.step()", "    loss.backward(); opt.step()"))
    assert after(one_line, change) == replaced(
        one_line, ("    loss.backward()", "    opt.zero_grad()\n    loss.backward()")
    )
    shared = replaced(LOOP, ("(x).pow(2).mean()  # the objective\n    loss.backward()", "(x).mean(); loss.backward()"))
    assert after(shared, change) is None


def test_gathered_gradients_are_cleared_after_the_step() -> None:
    source = replaced(LOOP, ("    opt.step()\n", "    if step % 4 == 3:\n        opt.step()\n"))
    found = after(source, Change("zero-grad", ""))
    assert found == replaced(source, ("        opt.step()\n", "        opt.step()\n        opt.zero_grad()\n"))


SIGNS = {
    "the loss": (("net(x).pow(2).mean()", "-net(x).pow(2).mean()"), []),
    "a sum": (("a + net(x).mean()", "-(a + net(x).mean())"), [("net(x).pow(2).mean()", "a + net(x).mean()")]),
    "a minus": (("-net(x).pow(2).mean()", "net(x).pow(2).mean()"), [("net(x).pow(2).mean()", "-net(x).pow(2).mean()")]),
    "a minus before a sum": (("-(a + b)", "a + b"), [("net(x).pow(2).mean()", "-(a + b)")]),
    "at backward": (("(-loss).backward()", "loss.backward()"), [("loss.backward()", "(-loss).backward()")]),
    "a loss given twice": (
        ("loss.backward()", "(-loss).backward()"),
        [("    loss.backward()", "    loss = loss + 1\n    loss.backward()")],
    ),
}


@pytest.mark.parametrize("name", SIGNS)
def test_the_sign_is_turned_where_the_loss_is_computed(name: str) -> None:
    pair, changes = SIGNS[name]
    source = replaced(LOOP, *changes)
    expected = replaced(source, pair)
    found = after(source, Change("flip-sign", ""))
    assert found == expected


def test_maximize_is_dropped_and_an_update_by_hand_is_turned() -> None:
    source = replaced(LOOP, ("momentum=0.9)", "momentum=0.9, maximize=True)"))
    assert after(source, Change("flip-sign", ""), maximize=True) == LOOP
    handed = replaced(LOOP, ("loss.backward()", "accelerator.backward(loss)"))
    assert after(handed, Change("flip-sign", "")) is None
    assert after(handed, Change("drop-bad-batch", "")) is None
    by_hand = "for p in params:\n    p += 0.1 * p.grad\n"
    found = edited(Change("flip-sign", ""), run(by_hand))
    assert found is not None
    assert found.after == by_hand.replace("+=", "-=")
    assert edited(Change("flip-sign", ""), run("for p in params:\n    p.mul_(0.1)\n")) is None


def test_a_warm_up_is_made_beside_the_optimizer_and_stepped_after_it() -> None:
    change = Change("warmup", "", settings={"steps": 50})
    assert after(LOOP, change) == replaced(
        LOOP,
        ("# keep me\n", "# keep me\nwarmup = torch.optim.lr_scheduler.LinearLR(opt, start_factor=0.02, total_iters=50)\n"),
        ("    opt.step()\n", "    opt.step()\n    warmup.step()\n"),
    )  # fmt: skip
    apart = "import torch\n\ndef step(opt):\n    opt.step()\n\ndef main():\n    opt = torch.optim.SGD(ps, lr=1)\n    step(opt)\n"
    assert after(apart, change) is None


def test_a_bad_batch_is_left_out() -> None:
    change = Change("drop-bad-batch", "")
    guarded = "    if not torch.isfinite(loss):\n        opt.zero_grad()\n        continue\n    loss.backward()"
    assert after(LOOP, change) == replaced(LOOP, ("    loss.backward()", guarded))
    steps = [Step(i, 0.0, 0, 0.1, 1.0, 100.0 if i == 7 else 0.5, 1.0, 0.1) for i in range(1, 12)]
    found = edited(change, run(LOOP, [optimizer(LOOP, "torch.optim.SGD(", "opt.step(")], steps=steps))
    assert found is not None
    assert found.after == replaced(
        LOOP,
        ("    opt.step()",
         '    norm = nn.utils.clip_grad_norm_(net.parameters(), float("inf"))  # only measured\n'
         "    if not norm < 10:\n        opt.zero_grad()\n        continue\n    opt.step()"),
    )  # fmt: skip
    counted = replaced(LOOP, ("for step in range(20):", "while step < 20:"))
    assert after(counted, change) is None  # `continue` could skip what ends the loop
    in_function = "import torch\n\ndef step(x):\n    loss = f(x)\n    loss.backward()\n    opt.step()\n\nopt = torch.optim.SGD(p, lr=1)\n"
    assert after(in_function, change) is None


def test_weight_decay_and_penalties_are_lowered() -> None:
    change = Change("lower-regularisation", "", settings={"factor": 0.01})
    source = replaced(LOOP, ("momentum=0.9", "weight_decay=0.5"))
    assert after(source, change, weight_decay=0.5) == replaced(source, ("weight_decay=0.5", "weight_decay=0.005"))
    penalty = replaced(
        LOOP, ("net(x).pow(2).mean()", "net(x).pow(2).mean() + LAMBDA * reg(net)"), ("aux =", "LAMBDA = 2.0\naux =")
    )
    there = Change("lower-regularisation", "", [at(penalty, "loss = net(x)", "mul")], {"factor": 0.01})
    assert after(penalty, there) == replaced(penalty, ("LAMBDA = 2.0", "LAMBDA = 0.02"))
    elsewhere = replaced(
        penalty, ("aux =", "def reg(m):\n    return sum(p.pow(2).sum() for p in m.parameters())\n\naux =")
    )
    inside = Change("lower-regularisation", "", [at(elsewhere, "return sum(", "pow")], {"factor": 0.01})
    assert after(elsewhere, inside) == replaced(elsewhere, ("LAMBDA = 2.0", "LAMBDA = 0.02"))
    halved = replaced(LOOP, ("net(x).pow(2).mean()", "0.5 * mse(net(x)) + reg(net)"))
    there = Change("lower-regularisation", "", [at(halved, "loss = 0.5", "pow")], {"factor": 0.01})
    assert after(halved, there) is None  # the factor is not the penalty's
    two = replaced(penalty, ("LAMBDA * reg(net)", "LAMBDA * reg(net) + 0.3 * reg(aux)"))
    both = Change("lower-regularisation", "", [at(two, "loss = net(x)", "mul")], {"factor": 0.01})
    assert after(two, both) is None


BATCHES = {
    "a loader": ("DataLoader(data, batch_size=4, shuffle=True)", ("batch_size=4", "batch_size=16"), ""),
    "a constant": ("DataLoader(data, batch_size=BATCH)", ("BATCH = 4", "BATCH = 16"), "BATCH = 4\n"),
    "drawn": ("torch.randint(0, 100, (BATCH,))", ("BATCH = 4", "BATCH = 16"), "BATCH = 4\n"),
    "drawn with a number": ("torch.randint(0, 100, (4,))", ("(4,)", "(16,)"), ""),
}


@pytest.mark.parametrize("name", BATCHES)
def test_the_batch_grows_where_its_size_is_written(name: str) -> None:
    text, pair, before = BATCHES[name]
    source = f"import torch\n{before}drawn = {text}\nopt.step()\n"
    seen = run(source, [optimizer(source, None, "opt.step(")], batch=4)
    found = edited(Change("larger-batch", "", settings={"batches": 4}), seen)
    assert found is not None
    assert found.after == replaced(source, pair)


def test_of_two_loaders_the_one_that_is_shuffled_is_trained_on() -> None:
    source = "a = DataLoader(d, batch_size=4, shuffle=True)\nb = DataLoader(e, batch_size=4)\nopt.step()\n"
    found = edited(Change("larger-batch", ""), run(source, [optimizer(source, None, "opt.step(")], batch=4))
    assert found is not None
    assert found.after == replaced(source, ("batch_size=4, shuffle", "batch_size=32, shuffle"))


def test_an_optimizer_that_is_made_in_one_file_and_stepped_in_another() -> None:
    other = "import torch\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
    loop = "from setup import net, opt\nfor x in data:\n    net(x).backward()\n    opt.step()\n"
    parts = optimizer(loop, None, "opt.step(")
    parts.made_file, parts.made_line = "setup.py", 2
    seen = run(loop, [parts], others={"setup.py": other})
    lower = edited(LOWER, seen)
    assert lower is not None
    assert (lower.file, lower.after) == ("setup.py", other.replace("0.1", "0.01"))
    clipped = edited(CLIP, seen)
    assert clipped is not None
    assert clipped.file == FILE
    assert 'for g in opt.param_groups for p in g["params"]' in clipped.after
    assert clipped.after.startswith("import torch\nfrom setup")
    assert edited(Change("warmup", "", settings={"steps": 9}), seen) is None


def test_a_batch_that_two_numbers_could_mean_is_left_alone() -> None:
    source = "a = DataLoader(d, batch_size=4)\nb = DataLoader(e, batch_size=4)\nopt.step()\n"
    assert edited(Change("larger-batch", ""), run(source, [optimizer(source, None, "opt.step(")], batch=4)) is None
    single = "for i in range(len(x)):\n    loss = f(x[i])\n    opt.step()\n"
    assert edited(Change("larger-batch", ""), run(single, [optimizer(single, None, "opt.step(")], batch=1)) is None


def test_nothing_is_edited_in_a_file_whose_text_is_not_at_hand() -> None:
    seen = run(LOOP, [optimizer(LOOP, "torch.optim.SGD(", "opt.step(")])
    seen.meta.sources = {}
    assert edited(LOWER, seen) is None
    broken = run("for x in:\n", [])
    assert edited(LOWER, broken) is None
    assert line_of(LOOP, "opt.step(") == 15
    assert FILE in run(LOOP).meta.sources
