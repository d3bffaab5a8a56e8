"""The gradient flow of a small network on handwritten digits: the path that gradient descent follows as its steps shrink.

From the command line:  gradientflow flow examples/flow_digits.py:field --time 100
As a script:            python examples/flow_digits.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import gradientflow as gf

torch.set_num_threads(1)  # the matrices are small: more threads would only wait for one another


def half_squared_error(output, label):
    target = nn.functional.one_hot(label, 10).to(output)
    return 0.5 * (output - target).square().sum(dim=1).mean()


def field():
    digits = load_digits()
    images = torch.tensor(digits.data[:500] / 8.0, dtype=torch.float64)
    labels = torch.tensor(digits.target[:500])
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 30),
        nn.Tanh(),
        nn.Linear(30, 30),
        nn.Tanh(),
        nn.Linear(30, 10),
    ).double()
    return gf.LossField(model, half_squared_error, (images, labels))


def main():
    flow_of = field()
    path = gf.flow(flow_of, t=100.0)

    measured = (~path.sharpness.isnan()).nonzero().flatten().tolist()
    print(
        f"     t      loss    ‖∇L‖  sharpness    h  stages, of {len(path)} moments those where the sharpness was measured"
    )
    for k in measured:
        print(
            f"{path.times[k]:6.2f}  {path.loss[k]:.6f}  {path.grad_norm[k]:6.3f}  {path.sharpness[k]:9.2f}"
            f"  {path.step[k]:.2f}  {path.stages[k]:4d}"
        )
    print()
    print(path)
    print(path.certificates)

    right = (flow_of.outputs(path.final).argmax(dim=1) == torch.tensor(load_digits().target[:500])).double().mean()
    print(f"at the end {right:.1%} of the 500 digits are read right")


if __name__ == "__main__":
    main()
