"""What an operation is: its name, its kind for the budget, and the range in which its derivative lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KINDS: dict[str, str] = {}


def _kind(kind: str, names: str) -> None:
    for name in names.split():
        KINDS[name] = kind


_kind("linear", "linear matmul mm bmm addmm addmv mv dot einsum bilinear baddbmm inner outer tensordot chain_matmul")
_kind("conv", "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
_kind("embedding", "embedding embedding_bag")
_kind("recurrent", "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")
_kind("attention", "scaled_dot_product_attention multi_head_attention_forward")
_kind("norm", "batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm native_layer_norm")
_kind(
    "activation",
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid tanh hardtanh hardsigmoid hardswish "
    "softplus softsign tanhshrink softshrink hardshrink threshold logsigmoid glu clamp clip clamp_min clamp_max maximum "
    "relu_ expit",
)
_kind("softmax", "softmax log_softmax softmin gumbel_softmax logsumexp")
_kind(
    "loss",
    "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy kl_div gaussian_nll_loss "
    "binary_cross_entropy_with_logits poisson_nll_loss hinge_embedding_loss cosine_embedding_loss triplet_margin_loss "
    "margin_ranking_loss multi_margin_loss multilabel_margin_loss soft_margin_loss ctc_loss "
    "multilabel_soft_margin_loss triplet_margin_with_distance_loss",
)
_kind("reduce", "sum mean amax amin max min prod std var nansum nanmean median cumsum cumprod trace count_nonzero")
_kind(
    "singular",
    "sqrt rsqrt div true_divide reciprocal log log2 log10 log1p pow float_power norm vector_norm normalize acos asin "
    "arccos arcsin atanh acosh cosine_similarity pairwise_distance cdist dist erfinv logit xlogy lgamma digamma "
    "cholesky inverse svd eigh slogdet logdet std_mean atan2 hypot cosh sinh tan",
)
_kind(
    "elementwise", "add sub mul neg exp expm1 abs square sign sin cos lerp addcmul addcdiv where masked_fill fmod clone"
)
_kind("random", "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout")
_kind(
    "shape",
    "reshape view flatten transpose permute squeeze unsqueeze expand cat stack split chunk unbind getitem select "
    "index_select gather narrow t T mT H contiguous movedim swapaxes tile repeat repeat_interleave pad roll flip "
    "unfold fold ravel unflatten expand_as view_as reshape_as setitem take masked_select to float double half "
    "bfloat16 type index_put concat concatenate hstack vstack diagonal tril triu pixel_shuffle as_strided copy",
)
_kind(
    "pool",
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool1d adaptive_max_pool2d interpolate upsample lp_pool2d",
)

_ALIASES = {
    "rsub": "sub", "radd": "add", "rmul": "mul", "rtruediv": "reciprocal", "truediv": "div", "rdiv": "reciprocal", "rpow": "exp",
    "rmatmul": "matmul", "iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "idiv": "div", "ipow": "pow",
    "multiply": "mul", "divide": "div", "subtract": "sub", "true_divide": "div", "expit": "sigmoid",
    "boolean_dispatch": "max_pool2d", "negative": "neg", "absolute": "abs", "swapdims": "transpose", "iadd_": "add",
}  # fmt: skip

# Bounded activations: (low, high) of the output; saturated = past 95 % of the way to either end.
RANGES: dict[str, tuple[float, float]] = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu6": (0.0, 6.0),
}
DYING = frozenset({"relu", "relu6", "threshold", "clamp", "clamp_min", "clip", "hardtanh", "maximum"})


def op_name(func: Callable[..., Any]) -> str:
    """Return the plain name of a torch function as the user knows it: ``Tensor.__rsub__`` → ``sub``, ``relu_`` → ``relu``."""
    name = getattr(func, "__name__", "") or str(func)
    if name == "__get__":  # a property such as .T
        name = getattr(getattr(func, "__self__", None), "__name__", "get")
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
    elif name.startswith("_") and not name.startswith("__"):
        name = name.lstrip("_")
    if name == "fn":  # torch.nn.functional's boolean dispatch hides its name
        name = "max_pool2d"
    name = _ALIASES.get(name, name)
    if name.endswith("_") and name[:-1]:
        name = name[:-1]
    if name.endswith("_with_indices"):
        name = name.removesuffix("_with_indices")
    return _ALIASES.get(name, name)


def kind_of(name: str) -> str:
    """Return the kind an operation counts under in the budget; ``other`` where it is not known."""
    return KINDS.get(name, "other")
