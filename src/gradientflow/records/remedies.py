"""The words of the remedies, each with its sentence: what to do about a finding.

`{at}` in a sentence is where the place goes that it is for, `{hint}` a number to begin with; both may be empty.
"""

from __future__ import annotations

REMEDIES = {
    "swap-activation": "Swap the activation{at} for one that does not saturate (ReLU, GELU, SiLU), or tanh where the range matters.",
    "rescale-init": "Initialise these weights so that each layer keeps the gradient's size: `nn.init.kaiming_normal_` "
    "before ReLU-like activations, `nn.init.xavier_normal_` before tanh{at}.",
    "break-symmetry": "Draw the weights at random{at} (`nn.init.kaiming_uniform_`): equal units get equal gradients and stay equal.",
    "add-skip": "Add skip connections (`x = x + block(x)`) around blocks of equal width, so that the gradient has a way past them.",
    "add-norm": "Put a normalisation (`nn.LayerNorm`, or `nn.BatchNorm1d/2d` with batches of 16 or more) in front of each activation.",
    "remove-norm": "Batch normalisation makes the gradient grow at each layer of a plain deep stack: use fewer of them, or "
    "normalise inside residual branches only.",
    "clamp-op": "Keep the operand{at} away from the singular point: add a small epsilon inside, clamp it, or use the safe form "
    "(`torch.linalg.vector_norm`, `F.log_softmax`, `torch.logsumexp`); with `torch.where`, make the unused branch safe too.",
    "mask-first": "Mask what goes into it{at}, not what comes out: put a harmless number (1, say) in the operand where the result is not "
    "wanted (`torch.where(ok, x, 1)`), and choose afterwards.",
    "unmask-row": "Leave every row of the softmax something to look at{at}: −1e4 instead of −∞ in the mask, a key that is never masked, or "
    "leave the rows without keys out before it (afterwards their NaN is in the gradient already).",
    "fit-lengths": "Give each sample at least as many frames as its labels need{at}: less pooling or stride in time, or leave such samples "
    "out of the batch; `zero_infinity=True` sets their loss to 0 and learns nothing from them.",
    "part-eigenvalues": "Keep the eigenvalues (or singular values) apart{at}: leave out constant columns, add a small diagonal of different "
    "numbers, or use what needs no eigenvectors (`torch.linalg.cholesky`, `qr`, `eigvalsh`, `svdvals`).",
    "larger-eps": "Give the optimizer an eps that the weights' number format holds{at} (1e-4 in float16), or keep the weights in float32 "
    "(`torch.autocast` casts for the forward pass only).",
    "clip-gradient": "Clip the gradient before the step: `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.",
    "gated-cell": "Use a gated cell (`nn.LSTM`, `nn.GRU`): its state passes the gradient on by a sum instead of a product.",
    "open-gates": "Open the gates that keep the state: start the forget bias of an LSTM at 1 to 5 (for `nn.LSTM`, the second quarter of "
    "`bias_hh_l0`), or the update bias of a GRU likewise (the second third){at}; or cut the sequence into shorter pieces.",
    "orthogonal-recurrence": "Make the recurrent weight orthogonal (`nn.init.orthogonal_`{at}, spectral radius 1): products of it neither grow nor shrink.",
    "hold-apart": "Put something into the loss that holds different samples apart{at} (negatives, a variance term, a stopped gradient on one of "
    "two branches), or normalise the embeddings.",
    "free-code": "Let the code carry something{at}: weigh the term that holds it at the noise less, or raise its weight from 0 over training; sum the "
    "reconstruction over the entries as that term is; or give each entry of the code some nats free of charge.",
    "lower-step": "Lower the learning rate{at}{hint}.",
    "raise-step": "Raise the learning rate{at}{hint}, or check the schedule that lowers it.",
    "warmup": "Warm the learning rate up over the first steps (`torch.optim.lr_scheduler.LinearLR`): curvature is highest at the start.",
    "scale-input": "Standardise the inputs (subtract the mean, divide by the standard deviation, column by column) before training{at}.",
    "scale-target": "Standardise the targets and undo it at prediction time, so that the output layer starts in range{at}.",
    "fix-output": "Match the output layer to the loss{at}: logits into `cross_entropy` / `binary_cross_entropy_with_logits`, "
    "no activation before a regression loss, at least two units before a softmax.",
    "zero-grad": "Call `optimizer.zero_grad()` once per step, before `backward()`{at}.",
    "reconnect": "Connect them{at}: give the optimizer the parameters that are trained, register layers with "
    "`nn.ModuleList` instead of a list, and do not `detach()` what should learn.",
    "keep-graph": "Keep the graph of the derivative{at}: `torch.autograd.grad(..., create_graph=True)`, so that what is made of it trains.",
    "straight-through": "Let the gradient past it{at}: `x + (x.round() - x).detach()` has its value and the slope 1; or use a soft form "
    "(sigmoid for sign, softmax for argmax).",
    "use-gradient": "Multiply by the gradient that comes in{at}: `backward(ctx, g)` returns g times the derivative; check it with "
    "`torch.autograd.gradcheck`.",
    "match-shapes": "Give both the same shape{at}: `prediction.squeeze(-1)`, or `target.unsqueeze(-1)`.",
    "right-axis": "Name the axis that is meant{at}: `dim=-1` for a softmax over classes, `batch_first=True` where the batch comes first; "
    "swap axes by `permute` or `transpose`, not by `view` or `reshape`.",
    "flip-sign": "The objective falls without bound: minimise its negative{at}.",
    "lower-regularisation": "Lower the weight of the penalty (or `weight_decay`){at} by a factor of 10 to 100.",
    "larger-batch": "Average over more samples per step (a larger batch, or accumulate gradients).",
    "drop-bad-batch": "Clean the data{at}: drop or repair the rows with missing or absurd values before training.",
    "keep-gradient": "Leave the gradient that backward delivered as it is{at}: clip by a norm above 0 (or not at all), after "
    "`scaler.unscale_(optimizer)`, and clear it before backward, not behind.",
    "keep-weights": "Write weights outside the optimizer only where they are meant to change{at}: keep an average in a copy of the model, "
    "update it behind each step, and load a checkpoint once.",
    "square-first": "Square (or take the size of) each sample's error first, and average afterwards{at}: `(answer - target).square().mean()`.",
    "keep-optimizer": "Make the optimizer once, ahead of the loop{at}, and leave its state alone: momentum and the scale of Adam are what it "
    "remembers.",
    "step-each-pass": "Call `optimizer.step()` behind `loss.backward()`, once for each batch (or for every few, whose losses are divided by "
    "their number){at}, and clear the gradient once for each step.",
    "wide-weights": "Keep the weights in float32 and compute in the narrow format (`torch.autocast`){at}, or round stochastically.",
}
