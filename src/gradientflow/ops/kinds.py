"""Names of operations and the kind each counts under in the budget."""

from __future__ import annotations

from gradientflow.ops.activations import ACTIVATIONS
from gradientflow.ops.recurrent import RECURRENT

KINDS: dict[str, str] = {}


def _kind(kind: str, names: str) -> None:
    for name in names.split():
        KINDS[name] = kind


_kind("linear", "linear matmul mm bmm addmm addmv mv dot einsum bilinear baddbmm inner outer tensordot chain_matmul")
_kind("conv", "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
_kind("embedding", "embedding embedding_bag")
_kind("recurrent", " ".join(RECURRENT))
_kind("attention", "scaled_dot_product_attention multi_head_attention_forward")
_kind("norm", "batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm native_layer_norm")
_kind("activation", " ".join(ACTIVATIONS))
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
_kind("derivative", "grad")  # torch.autograd.grad with create_graph, within the loss
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

# How PyTorch, or a user, also calls an operation → its name here.
ALIASES = {
    "rsub": "sub", "radd": "add", "rmul": "mul", "rtruediv": "reciprocal", "truediv": "div", "rdiv": "reciprocal", "rpow": "exp",
    "rmatmul": "matmul", "iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "idiv": "div", "ipow": "pow",
    "multiply": "mul", "divide": "div", "subtract": "sub", "true_divide": "div", "expit": "sigmoid", "swish": "silu",
    "boolean_dispatch": "max_pool2d", "log_sigmoid": "logsigmoid", "negative": "neg", "absolute": "abs", "swapdims": "transpose", "iadd_": "add",
}  # fmt: skip

LAYER_KINDS = frozenset({"linear", "conv", "embedding", "recurrent", "attention"})  # kinds that hold weights
# Kinds in which weights may stand too: a scale that is multiplied, a layer that someone wrote as one function.
MAY_HOLD_WEIGHTS = LAYER_KINDS | {"other", "singular", "elementwise"}
# Kinds that belong to the block of the layer before them.
IN_A_BLOCK = frozenset({"norm", "activation", "random"})

NORMALISATIONS = frozenset({"batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm"})
CONVOLUTIONS = frozenset(name for name, kind in KINDS.items() if kind == "conv")

# Operations that compare an answer with data → the power of the difference that the loss grows with; 0: as is written on.
COMPARING = {"sub": 0.0, "mse_loss": 2.0, "l1_loss": 1.0, "smooth_l1_loss": 1.0, "huber_loss": 2.0}


def plain_name(name: str) -> str:
    """Return the one name of an operation for how PyTorch calls a function: `__rsub__` → `sub`, `relu_` → `relu`.

    Example:
        >>> plain_name("relu_"), plain_name("__rtruediv__"), plain_name("_softmax"), plain_name("max_pool2d_with_indices")
        ('relu', 'reciprocal', 'softmax', 'max_pool2d')
    """
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
    elif name.startswith("_") and not name.startswith("__"):
        name = name.lstrip("_")
    if name == "fn":  # torch.nn.functional's boolean dispatch hides its name
        name = "max_pool2d"
    name = ALIASES.get(name, name)
    if name.endswith("_") and name[:-1]:
        name = name[:-1]
    name = name.removesuffix("_with_indices")
    return ALIASES.get(name, name)


def kind_of(name: str) -> str:
    """Return the kind an operation counts under in the budget; ``other`` where it is not known."""
    return KINDS.get(name, "other")
