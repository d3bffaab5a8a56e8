"""Three hidden layers, an activation between each two."""
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x_all = torch.randn(600, 20)
y_all = (x_all @ torch.randn(20, 4)).argmax(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.out = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x):
        x = torch.relu(self.a(x))
        x = torch.relu(self.b(x))
        x = torch.relu(self.c(x))
        return self.out(x)


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for step in range(150):
    pick = torch.randint(600, (64,))
    loss = F.cross_entropy(net(x_all[pick]), y_all[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
