"""Gradient descent and momentum beside the flow of a small network: how far from it, since when, and why."""

import torch
from flow_digits import field

import gradientflow as gf

net = field()
path = gf.flow(net, t=10.0)
keep = gf.Keep(theta=True)  # with their points kept, the descents need not be run a second time to be compared
descents = [gf.descend(net, torch.optim.SGD, t=10.0, lr=lr, keep=keep) for lr in (0.02, 0.2)]
descents.append(gf.descend(net, torch.optim.SGD, t=10.0, lr=0.02, momentum=0.9, keep=keep))

comparison = gf.compare(path, *descents)
for beside in comparison.beside:
    print(f"{beside.label}, {len(beside.times)} of its steps beside the flow")
    print(f"  {beside.why}")
    for k in range(len(beside.times) // 5, len(beside.times), len(beside.times) // 5):
        predicted = "" if beside.predicted is None else f"; predicted {beside.predicted[k]:.4f}"
        print(f"  t = {beside.times[k]:5.2f}: {beside.distance[k]:.4f} from the flow{predicted}")
