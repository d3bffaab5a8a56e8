"""The faults: what is replaced in a healthy script, and how it has to be told.

A fault that does harm within the 50 steps of its script has to be the verdict. One that does not is to be *named*: in the sentence
of a certificate or of the verdict, with its number. A few are no fault of the gradient at all, or cannot be told from a
choice: those may stay unsaid, and `why` says so; they must not be told as something else.
"""

from __future__ import annotations

from dataclasses import dataclass

VERDICT, NAMED, SILENT = "verdict", "named", "silent"
_SMALL = ("crawling", "stalled", "dead", "vanishing", "disconnected")  # the loss stands still
_LARGE = ("diverging", "oscillating", "not-finite", "exploding", "dead")  # the loss jumps, rises, or ends


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Args:
        name: of the fault, in words.
        kind: the row of the table that it counts in.
        script: under `scripts/`, without `.py`.
        replace: texts of the script, each of which stands in it once, and what is put in their place.
        symptoms, causes: accepted, the best first.
        at: texts of the lines of the changed script that are accepted as the place; none: the place is not judged.
        demand: VERDICT, NAMED or SILENT.
        says: what the naming sentence has to hold, for NAMED.
        why: for NAMED and SILENT, why the verdict is not demanded.
    """

    name: str
    kind: str
    script: str
    replace: tuple[tuple[str, str], ...]
    symptoms: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    at: tuple[str, ...] = ()
    demand: str = VERDICT
    says: str = ""
    why: str = ""


_LOOP = "for step in range(50):\n"
_BACK = "    loss.backward()\n"
_CLIP = "    nn.utils.clip_grad_norm_(model.parameters(), 5.0)\n"
_STEP = "    optimizer.step()\n"
_ZERO = "    optimizer.zero_grad()\n"
_LOSS = "nn.functional.cross_entropy(logits, label)"
_END = "    schedule.step()\n"
_ADAM = ("weight_decay=1e-4,", "weight_decay=1e-4, {},")
_UNSCALE = "    scaler.unscale_(optimizer)\n"
_CLIP_W = "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
_MSE = "nn.functional.mse_loss(output, target)"
_SGD = "lr=0.1, momentum=0.9, weight_decay=1e-5"
_FAST = ("lr=0.1", "lr=1.0")
_OPT = ("torch.optim", "lr=0.1", "lr=1.0", '"lr": 4e-3', "weight_decay=")  # the lines an optimizer is made at
_EACH = "    for weight in model.parameters():\n        {}\n"


def _adam(option: str) -> tuple[tuple[str, str], ...]:
    return ((_ADAM[0], _ADAM[1].format(option)),)


def _grads(change: str, behind: str) -> tuple[tuple[str, str], ...]:
    """Change every gradient behind a line."""
    return ((behind, behind + _EACH.format(change)),)


CLIP = (
    Mutant("clip to a norm of 0", "clip", "digits", ((_CLIP, _CLIP.replace("5.0", "0.0")),), _SMALL, ("gradient-altered",), ("clip_grad",)),
    Mutant("clip to a norm below zero", "clip", "digits", ((_CLIP, _CLIP.replace("5.0", "-5.0")),), _LARGE, ("gradient-altered",), ("clip_grad",)),
    Mutant("clip to 1e-4", "clip", "waves", ((_CLIP_W, _CLIP_W.replace("1.0", "1e-4")),), _SMALL, ("gradient-altered",), ("clip_grad",)),
    Mutant("clip values to 0", "clip", "waves", ((_CLIP_W, "    nn.utils.clip_grad_value_(model.parameters(), 0.0)\n"),), _SMALL,
           ("gradient-altered",), ("clip_grad",)),
    Mutant("clip before unscale_", "clip", "waves", ((_UNSCALE + _CLIP_W, _CLIP_W + _UNSCALE),), _SMALL, ("gradient-altered",), ("clip_grad",)),
    # (with a learning rate of 1 the script learns with its clip, and diverges without one)
    Mutant("clip on the average's parameters", "clip", "waves", (_FAST, (_CLIP_W, _CLIP_W.replace("model", "average").replace("1.0", "0.1"))),
           _LARGE, ("step-too-large",), ("clip_grad", *_OPT)),
    Mutant("clip behind the step", "clip", "waves",
           (_FAST, (_CLIP_W + "    scaler.step(optimizer)\n", "    scaler.step(optimizer)\n" + _CLIP_W.replace("1.0", "0.1"))),
           _LARGE, ("step-too-large",), ("clip_grad", *_OPT)),
)  # fmt: skip

ZERO_GRAD = (
    Mutant("no zero_grad (Adam)", "zero_grad", "digits", ((_ZERO, ""),), ("diverging", "oscillating", "crawling", "stalled"), ("missing-zero-grad",),
           ("loss.backward()", "optimizer.step()", "for step in", "torch.optim"), NAMED, "missing-zero-grad|never cleared|left over",
           "Adam divides by the size of what piles up"),
    Mutant("no zero_grad (SGD)", "zero_grad", "waves", ((_ZERO, ""),), ("diverging", "oscillating", "crawling", "stalled"), ("missing-zero-grad",),
           ("backward()", "scaler.step", "for step in", "torch.optim")),
    Mutant("zero_grad of the average", "zero_grad", "waves", ((_ZERO, "    average.zero_grad()\n"),),
           ("diverging", "oscillating", "crawling", "stalled"), ("missing-zero-grad",),
           ("backward()", "scaler.step", "for step in", "torch.optim", "average.zero_grad")),
    Mutant("zero_grad between backward and step", "zero_grad", "digits", ((_ZERO, ""), (_CLIP, _CLIP + _ZERO)), _SMALL,
           ("gradient-altered", "disconnected-parameters"), ("optimizer.zero_grad()",)),
    Mutant("zero_grad between unscale_ and step", "zero_grad", "waves", ((_ZERO, ""), (_UNSCALE, _UNSCALE + _ZERO)), _SMALL,
           ("gradient-altered", "disconnected-parameters"), ("optimizer.zero_grad()",)),
    Mutant("zero_grad at every tenth step only", "zero_grad", "waves", ((_ZERO, "    if step % 10 == 0:\n    " + _ZERO),),
           ("diverging", "oscillating"), ("missing-zero-grad", "step-too-large"), (), NAMED, "gradients of earlier steps were still in",
           "behind its clip the script learns as well as without it"),
)  # fmt: skip

BACKWARD = (
    Mutant("backward twice (Adam)", "backward", "digits", ((_BACK, "    loss.backward(retain_graph=True)\n" + _BACK),), at=("backward(",), demand=NAMED,
           says="counts twice", why="Adam's step does not see a factor of two"),
    Mutant("backward twice (SGD)", "backward", "waves",
           (("scaler.scale(loss).backward()", "scaler.scale(loss).backward(retain_graph=True)\n    scaler.scale(loss).backward()"),),
           ("diverging", "oscillating"), ("gradient-altered", "step-too-large"), ("backward(",), NAMED, "counts twice|2 backward calls",
           "twice the step is still stable here"),
    Mutant("output detached", "backward", "digits", (("model(picture)", "model(picture).detach().requires_grad_()"),), _SMALL,
           ("disconnected-parameters",), ("detach()",)),
    Mutant("backward on the loss's number", "backward", "digits", ((_BACK, "    torch.tensor(loss.item(), requires_grad=True).backward()\n"),),
           _SMALL, ("disconnected-parameters",), ("loss.item()", "torch.tensor(loss")),
    Mutant("backward on the outputs' mean", "backward", "digits", ((_BACK, "    logits.mean().backward()\n"),),
           ("diverging", "stalled", "exploding"), ("wrong-sign", "gradient-altered", "disconnected-parameters", "unbounded-loss"),
           ("backward()", "loss = ")),
    Mutant("body under no_grad", "backward", "digits",
           (("    logits = model(picture)", "    with torch.no_grad():\n        hidden = body(picture)\n    logits = head(hidden)"),),
           ("disconnected",), ("disconnected-parameters",), ("no_grad", "body(picture)", "head(hidden)")),
    Mutant("reader under no_grad", "backward", "waves",
           (("        states, _ = self.reader(series)", "        with torch.no_grad():\n            states, _ = self.reader(series)"),),
           ("disconnected",), ("disconnected-parameters",), ("no_grad", "self.reader(series)", "self.answer(")),
    Mutant("hidden state through .data", "backward", "waves", (("self.answer(states[:, -1])", "self.answer(states[:, -1].data)"),),
           ("disconnected",), ("disconnected-parameters",), (".data",)),
)  # fmt: skip

STEP = (
    Mutant("one group is not the optimizer's", "step", "digits", ((', {"params": head.parameters(), "lr": 4e-3}]', "]"),), ("disconnected",),
           ("disconnected-parameters",), ('"params"', "torch.optim", "head = ")),
    Mutant("the optimizer holds another model", "step", "digits",
           (('"params": body.parameters()', '"params": copy.deepcopy(body).parameters()'), ('"params": head.parameters()', '"params": copy.deepcopy(head).parameters()')),
           _SMALL, ("disconnected-parameters",), ("torch.optim", '"params"', "body = ", "head = ")),
    Mutant("body frozen", "step", "digits", (("start = copy", "body.requires_grad_(False)\nstart = copy"),), ("disconnected",),
           ("disconnected-parameters",), ("requires_grad_", '"params"', "torch.optim", "body = "), NAMED, "4 of its 6 parameters.*frozen",
           "features that are not trained are a choice that many make"),
    Mutant("model copied behind the optimizer", "step", "digits", ((_LOOP, "model = copy.deepcopy(model)\n" + _LOOP),), _SMALL,
           ("disconnected-parameters",), ("deepcopy(model)\n", "torch.optim", '"params"', "body = ", "head = ")),
    Mutant("reader replaced behind the optimizer", "step", "waves", (("scaler = torch", "model.reader = nn.GRU(1, 32, batch_first=True)\nscaler = torch"),),
           ("disconnected",), ("disconnected-parameters",), ("model.reader =", "torch.optim", "self.reader = ")),
    Mutant("optimizer made anew at each step", "step", "waves",
           ((_ZERO, f"    optimizer = torch.optim.SGD(model.parameters(), {_SGD})\n" + _ZERO),), _SMALL,
           ("optimizer-remade", "step-too-small"), ("torch.optim",), NAMED, "made anew|new optimizer|optimizers were made|50 optimizers",
           "a tenth of the step, in a script that learns with that as well"),
    Mutant("step ahead of backward", "step", "digits", ((_BACK + _CLIP + _STEP, _STEP + _BACK + _CLIP),), (*_SMALL, "not-measured"),
           ("steps-missing", "disconnected-parameters", "gradient-altered"), ("optimizer.step()", "zero_grad", "backward()", "torch.optim")),
    Mutant("scaler never steps", "step", "waves", (("    scaler.step(optimizer)\n", ""),), (*_SMALL, "not-measured"),
           ("disconnected-parameters", ""), ("torch.optim", "scaler.update()")),
    Mutant("step only behind the loop", "step", "digits", ((_STEP + _END, ""), ("{loss.item():.4f}\")\n", "{loss.item():.4f}\")\noptimizer.step()\n")),
           (*_SMALL, "not-measured"), ("steps-missing", "disconnected-parameters", ""), ("torch.optim", "optimizer.step()")),
)  # fmt: skip

RATE = (
    Mutant("learning rate 0", "lr", "waves", (("lr=0.1", "lr=0.0"),), _SMALL, ("step-too-small", "schedule-ended"), _OPT),
    Mutant("learning rate 0 by its schedule", "lr", "digits", (("min(1.0, (step + 1) / 5)", "min(1.0, (step + 1) // 500)"),), _SMALL,
           ("step-too-small", "schedule-ended"), ("schedule = ", *_OPT)),
    Mutant("learning rate below zero", "lr", "digits", (("min(1.0, (step + 1) / 5)", "-min(1.0, (step + 1) / 5)"),), _LARGE,
           ("wrong-sign",), ("schedule = ", *_OPT)),
    Mutant("learning rate × 1000 (Adam)", "lr", "digits", (('"lr": 4e-3}, {', '"lr": 4.0}, {'), ('head.parameters(), "lr": 4e-3', 'head.parameters(), "lr": 4.0')),
           _LARGE, ("step-too-large",), ('"lr": 4.0', *_OPT)),
    Mutant("learning rate × 1000 (SGD)", "lr", "waves", (("lr=0.1", "lr=100.0"),), _LARGE, ("step-too-large",), ("lr=100",)),
    Mutant("learning rate / 1e5", "lr", "waves", (("lr=0.1", "lr=1e-6"),), _SMALL, ("step-too-small",), ("lr=1e-6",)),
    Mutant("schedule counted in epochs", "lr", "digits",
           (("LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))", "StepLR(optimizer, step_size=1, gamma=0.1)"),), _SMALL,
           ("schedule-ended", "step-too-small"), ("schedule = ", "schedule.step()")),
    Mutant("warm-up that never ends", "lr", "digits", (("(step + 1) / 5)", "(step + 1) / 5_000_000)"),), _SMALL, ("step-too-small",),
           ("schedule = ", *_OPT)),
    Mutant("learning rate grows by a third at each step", "lr", "waves",
           (("scaler = torch", "schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 1.33)\nscaler = torch"), ("    scaler.update()\n", "    scaler.update()\n    schedule.step()\n")),
           _LARGE, ("step-too-large",), ("schedule = ", "schedule.step()", *_OPT)),
    Mutant("one group's learning rate is 0", "lr", "digits", (('[{"params": body.parameters(), "lr": 4e-3}', '[{"params": body.parameters(), "lr": 0.0}'),),
           ("crawling", "disconnected", "stalled"), ("step-too-small",), ('"lr": 0.0', "torch.optim"), NAMED, "group 0.*learning rate of 0",
           "the other group learns; features that are not trained are a choice that many make"),
)  # fmt: skip

OPTIONS = (
    Mutant("eps 1 in Adam", "options", "digits", _adam("eps=1.0"), _SMALL, ("step-too-small",), _OPT, NAMED, "eps rules up to 100",
           "a smaller step, in a script that learns on"),
    Mutant("eps 1e4 in Adam", "options", "digits", _adam("eps=1e4"), _SMALL, ("step-too-small",), _OPT),
    Mutant("betas of Adam swapped", "options", "digits", _adam("betas=(0.999, 0.9)"), _LARGE, ("step-too-large",), _OPT, NAMED,
           r"group 0.*betas of 0\.999 and 0\.9", "the script learns on, not as well"),
    Mutant("momentum 0.999", "options", "waves", (("momentum=0.9", "momentum=0.999"),), _LARGE, ("step-too-large",), _OPT),
    Mutant("weight decay 10 (Adam)", "options", "digits", (("weight_decay=1e-4", "weight_decay=10.0"),), (*_SMALL, "stalled"), ("over-regularised",), _OPT),
    Mutant("weight decay 10 (SGD)", "options", "waves", (("weight_decay=1e-5", "weight_decay=10.0"),), (*_SMALL, *_LARGE), ("over-regularised",), _OPT),
    Mutant("maximize (Adam)", "options", "digits", _adam("maximize=True"), _LARGE, ("wrong-sign",), _OPT),
    Mutant("maximize (SGD)", "options", "waves", (("weight_decay=1e-5", "weight_decay=1e-5, maximize=True"),), _LARGE, ("wrong-sign",), _OPT),
    Mutant("dampening 1", "options", "waves", (("weight_decay=1e-5", "weight_decay=1e-5, dampening=1.0"),), _SMALL, ("step-too-small",), _OPT, NAMED,
           "dampening", "the first gradient is kept as momentum and fades: the loss falls before it stands"),
)  # fmt: skip

GRADIENT = (
    Mutant("gradient × −1 (Adam)", "gradient", "digits", _grads("weight.grad.mul_(-1.0)", _BACK), _LARGE, ("gradient-altered",), ("grad.mul_",)),
    Mutant("gradient × −1 (SGD)", "gradient", "waves", _grads("weight.grad.neg_()", _UNSCALE), _LARGE, ("gradient-altered",), ("grad.neg_",)),
    Mutant("gradient × 0", "gradient", "waves", _grads("weight.grad *= 0.0", _CLIP_W), _SMALL, ("gradient-altered",), ("grad *=",)),
    Mutant("gradient × 1e-6", "gradient", "waves", _grads("weight.grad.mul_(1e-6)", _CLIP_W), _SMALL, ("gradient-altered",), ("grad.mul_",)),
    Mutant("gradient × 1000", "gradient", "waves", _grads("weight.grad.mul_(1e3)", _CLIP_W), _LARGE, ("gradient-altered",), ("grad.mul_",)),
    Mutant("gradient set to zeros by name", "gradient", "digits", _grads("weight.grad = torch.zeros_like(weight)", _BACK), _SMALL, ("gradient-altered",),
           ("zeros_like",)),
    Mutant("a hook that gives zeros, on the outputs", "gradient", "digits",
           ((_BACK, "    logits.register_hook(torch.zeros_like)\n" + _BACK),), _SMALL, ("gradient-altered", "zero-derivative", "disconnected-parameters"),
           ("register_hook", "backward()")),
    Mutant("a hook that turns the gradient, on the weights", "gradient", "waves",
           ((_LOOP, "for weight in model.parameters():\n    weight.register_hook(torch.neg)\n" + _LOOP),), _LARGE, ("gradient-altered",),
           ("register_hook", "backward()")),
    Mutant("nan_to_num over a gradient that is not a number", "gradient", "digits",
           ((_LOSS, _LOSS + " + (head.weight - head.weight).square().sum().sqrt()"), (_BACK, _BACK + _EACH.format("weight.grad.nan_to_num_(0.0)"))),
           ("not-finite", "disconnected"), ("singular-op", "gradient-altered"), ("sqrt()", "nan_to_num_")),
    Mutant("gradient added twice", "gradient", "waves", _grads("weight.grad.add_(weight.grad.clone())", _CLIP_W), ("diverging", "oscillating"),
           ("gradient-altered",), ("add_",), NAMED, "add_.*×2", "twice the step is still stable here"),
    Mutant("signs only", "gradient", "waves", _grads("weight.grad.sign_()", _CLIP_W), _LARGE, ("gradient-altered", "step-too-large"), ("sign_()", *_OPT)),
)  # fmt: skip

_REWRITE = ("crawling", "stalled", "oscillating")
WEIGHTS = (
    Mutant("the average copied back every fourth step", "weights", "waves",
           (("kept.lerp_(weight, 0.1)", "kept.lerp_(weight, 0.01)"), ("    if step % 10 == 9:", "    if step % 4 == 3:\n        model.load_state_dict(average.state_dict())\n    if step % 10 == 9:")),
           _REWRITE, ("weights-rewritten",), ("load_state_dict",)),
    Mutant("layers drawn anew every tenth step", "weights", "digits",
           ((_ZERO, "    if step % 10 == 0:\n        for layer in (body[0], body[2], head):\n            layer.reset_parameters()\n" + _ZERO),), _REWRITE,
           ("weights-rewritten",), ("reset_parameters",)),
    Mutant("the start reloaded every tenth step", "weights", "digits", ((_ZERO, "    if step % 10 == 0:\n        model.load_state_dict(start)\n" + _ZERO),),
           _REWRITE, ("weights-rewritten",), ("load_state_dict",)),
    Mutant("the start reloaded at each step", "weights", "digits", ((_ZERO, "    model.load_state_dict(start)\n" + _ZERO),), _REWRITE,
           ("weights-rewritten",), ("load_state_dict",)),
    Mutant("weights clamped to ± 0.001", "weights", "digits", ((_STEP, _STEP + _EACH.format("weight.data.clamp_(-0.001, 0.001)")),),
           (*_REWRITE, "vanishing", "dead"), ("weights-rewritten",), ("clamp_",)),
    Mutant("weights averaged over units", "weights", "digits",
           ((_STEP, _STEP + "    with torch.no_grad():\n        for layer in (body[0], body[2], head):\n            layer.weight.copy_(layer.weight.mean(0).expand_as(layer.weight))\n"),),
           (*_REWRITE, "dead", "vanishing"), ("weights-rewritten", "symmetric-init"), ("copy_(",)),
    Mutant("weights halved at each step", "weights", "waves", (("    scaler.update()\n", "    scaler.update()\n" + _EACH.format("weight.data.mul_(0.5)")),),
           (*_REWRITE, "vanishing", "dead"), ("weights-rewritten", "over-regularised"), ("mul_(0.5)",)),
)  # fmt: skip

DTYPE = (
    Mutant("weights in bfloat16, small learning rate", "dtype", "digits",
           (("model = nn.Sequential(body, head)", "model = nn.Sequential(body, head).to(torch.bfloat16)"), ("model(picture)", "model(picture.bfloat16()).float()"),
            ('"lr": 4e-3}, {', '"lr": 2e-5}, {'), ('head.parameters(), "lr": 4e-3', 'head.parameters(), "lr": 2e-5')),
           _SMALL, ("rounding", "step-too-small"), ("bfloat16", '"lr": 2e-5', *_OPT)),
    Mutant("weights in half precision, Adam", "dtype", "digits",
           (("model = nn.Sequential(body, head)", "model = nn.Sequential(body, head).half()"), ("model(picture)", "model(picture.half()).float()"),
            ("cross_entropy(logits, label)", "cross_entropy(logits, label) * 1e-3")), ("not-finite",), ("overflow", "singular-op", "rounding"),
           ("half()", "optimizer.step()", *_OPT)),
    Mutant("loss scaled beyond half precision", "dtype", "digits",
           (("model = nn.Sequential(body, head)", "model = nn.Sequential(body, head).half()"), ("model(picture)", "model(picture.half()).float()"),
            (_BACK, "    (1e9 * loss).backward()\n")), ("not-finite",), ("overflow", "singular-op"),
           ("half()", "backward()", "optimizer.step()", *_OPT)),
    Mutant("outputs rounded to whole numbers", "dtype", "waves", (("    output = model(series)\n", "    output = model(series).round()\n"),),
           _SMALL, ("zero-derivative", "disconnected-parameters"), ("round()",)),
)  # fmt: skip

DATA = (
    Mutant("labels shuffled at each step", "data", "digits", (("images[rows], labels[rows]", "images[rows], labels[torch.randperm(len(labels))[:128]]"),),
           ("stalled", "noisy", "oscillating"), ("unexplained", "small-batch-noise", "")),
    Mutant("targets of other rows", "data", "waves", (("waves[rows, -1:]", "waves[torch.randperm(len(waves))[:128], -1:]"),),
           ("stalled", "noisy", "oscillating"), ("unexplained", "small-batch-noise", "")),
    Mutant("inputs all zero", "data", "digits", (("images[rows], labels", "0.0 * images[rows], labels"),), ("stalled", "dead", "crawling", "disconnected"),
           ("unexplained", "dead-units", "zero-derivative", "disconnected-parameters", "collapse", "bad-batch")),
    Mutant("inputs × 1000 (Adam)", "data", "digits", (("images[rows], labels", "1000.0 * images[rows], labels"),), demand=SILENT,
           why="the loss begins at a hundred, and falls all the same"),
    Mutant("inputs × 1000 (SGD)", "data", "waves", (("waves[rows, :-1, None]", "1000.0 * waves[rows, :-1, None]"),), (*_LARGE, *_SMALL),
           ("unscaled-input", "saturating-activation"), ("series, target", "waves = ", "self.reader", "loss = ")),
    Mutant("a row of inputs is not a number", "data", "digits", (("    logits = ", "    picture[3] = torch.log(-torch.ones(64)) if step == 20 else picture[3]\n    logits = "),),
           ("not-finite",), ("bad-batch", "singular-op"), ("picture[3]", "loss = ")),
    Mutant("the same batch at each step", "data", "digits", (("torch.randint(len(images), (128,))", "torch.arange(128)"),), demand=SILENT,
           why="the loss of that batch falls as it should; no gradient is wrong"),
    Mutant("labels off by one", "data", "digits", (("images[rows], labels[rows]", "images[rows], (labels[rows] + 1) % 10"),), demand=SILENT,
           why="it is a task like any other: the loss falls as it should"),
)  # fmt: skip

LOSS = (
    Mutant("one column against a row", "loss", "waves", (("waves[rows, -1:]", "waves[rows, -1]"),), ("stalled", "crawling"), ("mixed-samples",),
           ("loss = ", "target = ")),
    Mutant("softmax twice", "loss", "digits", ((_LOSS, "nn.functional.cross_entropy(logits.softmax(1), label)"),), ("crawling", "stalled"),
           ("output-activation",), ("softmax", "loss = ")),
    Mutant("softmax over the batch", "loss", "digits", ((_LOSS, "nn.functional.nll_loss(logits.log_softmax(0), label)"),),
           ("crawling", "stalled", "diverging"), ("mixed-samples",), ("softmax",)),
    Mutant("log of a softmax by hand", "loss", "digits", ((_LOSS, "nn.functional.nll_loss((300 * logits).softmax(1).log(), label)"),),
           ("not-finite",), ("singular-op", "overflow"), ("log()",)),
    Mutant("loss × 0", "loss", "digits", ((_LOSS, _LOSS + " * 0.0"),), _SMALL, ("zero-derivative", "disconnected-parameters", "gradient-altered"), ("loss = ",)),
    Mutant("loss × 1e-8", "loss", "waves", ((_MSE, _MSE + " * 1e-8"),), _SMALL, ("step-too-small", "gradient-altered"), ("loss = ", *_OPT)),
    Mutant("loss × −1 (Adam)", "loss", "digits", ((_LOSS, "-" + _LOSS),), _LARGE, ("wrong-sign",), ("loss = ",)),
    Mutant("loss × −1 (SGD)", "loss", "waves", ((_MSE, "-" + _MSE),), _LARGE, ("wrong-sign",), ("loss = ",)),
    Mutant("mean over the batch ahead of the square", "loss", "waves", ((_MSE, "(output - target).mean().square()"),),
           ("stalled", "crawling", "noisy"), ("mixed-samples",), ("loss = ",), NAMED, "samples are joined|mixed-samples",
           "the loss that is left does fall"),
    Mutant("sum where a mean was meant", "loss", "waves", ((_MSE, _MSE.replace("target)", 'target, reduction="sum")')),
           (_CLIP_W, "")), _LARGE, ("step-too-large",), ("loss = ", *_OPT)),
)  # fmt: skip

MUTANTS: tuple[Mutant, ...] = (
    *CLIP, *ZERO_GRAD, *BACKWARD, *STEP, *RATE, *OPTIONS, *GRADIENT, *WEIGHTS, *DTYPE, *DATA, *LOSS,
)  # fmt: skip
