"""The script of a small network: what "copy as Python" gives is the very text that the app runs and looks at.

Nothing but checked knobs goes into it: numbers, and words out of a fixed list.
"""

from __future__ import annotations

import types
from typing import Any

from gradientflow.depth.small.acts import ACTS
from gradientflow.depth.small.knobs import STEPS
from gradientflow.records import Knobs

FILE = "small_net.py"
_DRAWN = {
    "xavier": "nn.init.xavier_normal_(layer.weight, gain={gain:g})",
    "he": 'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    "orthogonal": "nn.init.orthogonal_(layer.weight, gain={gain:g})",
}
_NORMS = {"layer": "nn.LayerNorm(WIDTH)", "batch": "nn.BatchNorm1d(WIDTH)"}
_MAIN = """
def main():
    net, batch = build(), data()
    optimizer = torch.optim.SGD(net.parameters(), lr={lr:g})
    for step in range(1, {steps} + 1):
        optimizer.zero_grad()
        value = loss(net, batch)
        value.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {{step}}: loss {{value.item():.4g}}")


if __name__ == "__main__":
    main()
"""


def written(knobs: Knobs) -> str:
    """Return the script of checked knobs."""
    sizes = (
        ["TIME, WIDTH, SAMPLES, CLASSES", f"{knobs.time}, {knobs.width}, 64, 10"]
        if knobs.time
        else ["DEPTH, WIDTH, SAMPLES, CLASSES", f"{knobs.depth}, {knobs.width}, 64, 10"]
    )
    return "\n".join(
        [
            '"""A small network on fixed data. What becomes of its gradient: gradientflow run small_net.py"""\n',
            "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n",
            f"{sizes[0]} = {sizes[1]}\n\n",
            *_net(knobs),
            f"\n\ndef build():\n    torch.manual_seed({knobs.seed})\n    return Net()\n\n",
            *_data(knobs),
            *_loss(knobs),
            _MAIN.format(lr=knobs.lr, steps=STEPS),
        ]
    )


def block(knobs: Knobs) -> str:
    """Return the line of the script that is run once for each layer, or for each time step."""
    state = "h" if knobs.time else "x"
    norm = "{}" if knobs.norm == "none" else "self.norm({})" if knobs.time else "norm({})"
    act = ACTS[knobs.activation].text
    if knobs.skip:
        inner = act.format(norm.format(state))
        made = f"{state} + " + (f"self.taken(now) + self.kept({inner})" if knobs.time else f"layer({inner})")
    else:
        made = act.format(norm.format("self.taken(now) + self.kept(h)" if knobs.time else "layer(x)"))
    return f"            {state} = {made}"


def loaded(knobs: Knobs) -> tuple[str, dict[str, Any]]:
    """Return the script and, of its module, what it defines."""
    text = written(knobs)
    module = types.ModuleType("small_net")
    module.__file__ = FILE
    exec(compile(text, FILE, "exec"), module.__dict__)  # our own text
    return text, module.__dict__


def _net(knobs: Knobs) -> list[str]:
    lines = ["class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    norm = _NORMS.get(knobs.norm)
    if knobs.time:
        lines += [
            "        self.taken = nn.Linear(WIDTH, WIDTH)",
            "        self.kept = nn.Linear(WIDTH, WIDTH, bias=False)",
        ]
        lines += [f"        self.norm = {norm}"] if norm else []
        lines += ["        self.head = nn.Linear(WIDTH, CLASSES)", *_drawn(knobs, "[self.kept]")]
        loop = [
            "        h = torch.zeros(SAMPLES, WIDTH)",
            "        for now in x:",
            block(knobs),
            "        return self.head(h)",
        ]
    else:
        lines += ["        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))"]
        lines += [f"        self.norms = nn.ModuleList({norm} for _ in range(DEPTH))"] if norm else []
        lines += ["        self.head = nn.Linear(WIDTH, CLASSES)", *_drawn(knobs, "self.layers")]
        through = "layer, norm in zip(self.layers, self.norms)" if norm else "layer in self.layers"
        loop = [f"        for {through}:", block(knobs), "        return self.head(x)"]
    return [*lines, "", "    def forward(self, x):", *loop]


def _drawn(knobs: Knobs, layers: str) -> list[str]:
    draw = _DRAWN.get(knobs.init)
    scaled = knobs.init in ("default", "he") and knobs.gain != 1.0
    inner = [draw.format(gain=knobs.gain)] if draw else []
    inner += [f"layer.weight.data *= {knobs.gain:g}"] if scaled else []
    inner += ["nn.init.zeros_(layer.bias)"] if draw and not knobs.time else []
    return [f"        for layer in {layers}:", *(f"            {line}" for line in inner)] if inner else []


def _data(knobs: Knobs) -> list[str]:
    shape = "TIME, SAMPLES, WIDTH" if knobs.time else "SAMPLES, WIDTH"
    seen = "x.sum(0)" if knobs.time else "x"
    lines = [
        "def data():",
        f"    draw = torch.Generator().manual_seed({knobs.seed + 1})",
        f"    x = torch.randn({shape}, generator=draw)",
    ]
    if knobs.loss != "classes":
        at = "[:, {}]" if knobs.time else "[{}]"
        lines.append(f"    x{at.format(1)} = x{at.format(0)}  # one sample stands there twice")
    lines += [f"    y = ({seen} @ torch.randn(WIDTH, CLASSES, generator=draw)).argmax(1)", "    return x, y\n\n"]
    return lines


def _loss(knobs: Knobs) -> list[str]:
    head = ["def loss(net, batch):", "    x, y = batch"]
    if knobs.loss == "classes":
        return [*head, "    return F.cross_entropy(net(x), y)\n"]
    safe = " + 1e-6" if knobs.loss == "safe distance" else ""
    return [
        *head,
        "    z = net(x)",
        f"    gap = torch.sqrt((z - z.roll(1, 0)).square().sum(1){safe})",
        "    same = (y == y.roll(1)).float()",
        "    return (same * gap + (1 - same) * F.relu(1 - gap)).mean()\n",
    ]
