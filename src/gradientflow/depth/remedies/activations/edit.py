"""Activations: another one in place of one that saturates or dies, and none where the output should be free."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.source import NoEditError, Source
from gradientflow.depth.remedies.writing.uses import KINDS, Use, drop_module, kind_of, like, named, uses

_NONE = ("identity", "none", "linear", "")


def written_uses(job: Job, wanted: str | None = None) -> list[Use]:
    """Return the activations at the change's lines; where a line only calls one, where that was given its name.

    Raises:
        NoEditError: a line shows no activation, and it cannot be told which one it calls.
    """
    source = job.source
    found: list[Use] = []
    for place in job.places:
        kind = wanted or kind_of(place.op)
        here = [u for u in uses(source, source.on_line(place.line, ast.expr)) if kind in (None, u.kind)]
        found += (
            here or _made(job, place.line, kind) or _built(job, place.line, kind) or _elsewhere(job, place.line, kind)
        )
    if not found:
        raise NoEditError("no activation is written at the line")
    return list({u.node: u for u in found}.values())


def _made(job: Job, line: int | None, kind: str | None) -> list[Use]:
    """The modules that ran as activations at a line which only calls them: the elements of an `nn.Sequential(...)`."""
    found: dict[ast.expr, Use] = {}
    for op in job.ops([line] if line is not None else []):
        if kind is None or kind_of(op.name) != kind:
            continue
        element = job.element(op)
        written = uses(job.source, [element]) if element is not None else []
        if not written or written[0].kind != kind:
            return []  # one of them is written elsewhere: all or none
        found[written[0].node] = written[0]
    return list(found.values())


def _built(job: Job, line: int | None, kind: str | None) -> list[Use]:
    """The activations of a list that an `nn.Sequential(*layers)` at the line is made of."""
    lines = job.building_lines([line]) if line is not None and kind is not None else []
    nodes = [n for built in lines for n in job.source.on_line(built, ast.expr)]
    return [u for u in uses(job.source, nodes) if u.kind == kind and u.form in ("module", "class")]


def _elsewhere(job: Job, line: int | None, kind: str | None) -> list[Use]:
    """Follow `self.act(...)` or `act(...)` on a line to the one place that says which activation it is."""
    source = job.source
    every = [u for u in uses(source, list(source.nodes(ast.expr))) if kind in (None, u.kind)]
    called: set[str] = set()
    for c in source.on_line(line, ast.Call):
        called |= {source.segment(c.func)} | {
            source.segment(a) for a in c.args if isinstance(a, (ast.Name, ast.Attribute))
        }
    values = [
        s.value
        for s in source.nodes(ast.Assign)
        for t in s.targets
        if source.segment(t) in called
    ]  # fmt: skip
    direct = [u for u in every if u.node in values]
    if len(direct) == 1 and len(values) == 1:
        return direct
    if kind is not None and len(every) == 1:
        return every
    raise NoEditError(f"line {line} shows no activation, and {len(every)} others could be meant")


def swap(job: Job) -> None:
    """Write another activation at the change's lines; setting: `to` (relu if not given; leaky_relu in place of relu)."""
    word = job.word("to")
    if word is not None and word.lower() in _NONE:
        remove(job)
        return
    written = written_uses(job, kind_of(job.word("from")))
    to = kind_of(word or ("leaky_relu" if any(u.kind == "relu" for u in written) else "relu"))
    if to is None:
        raise NoEditError(f"no activation is known by the name {word}")
    found = [u for u in written if u.kind != to]
    if not found:
        raise NoEditError("it is that activation already")
    for use in found:
        _rewrite(job, use, to)
    if any(u.kind in ("sigmoid", "tanh") for u in found) and to not in ("sigmoid", "tanh") and _xavier(job.source):
        job.patch.notes.append(
            "the initialisation was chosen for the old activation: `nn.init.kaiming_normal_` suits this one"
        )


def _xavier(source: Source) -> bool:
    return any("xavier" in source.dotted(c.func) for c in source.nodes(ast.Call))


def _rewrite(job: Job, use: Use, to: str) -> None:
    cls, function, everywhere = KINDS[to]
    source, patch, node = job.source, job.patch, use.node
    if use.form == "module":
        patch.replace(node, f"{like(job, node, f'torch.nn.{cls}')}()")
        return
    if use.form == "class":
        patch.replace(node, like(job, node, f"torch.nn.{cls}"))
        return
    short = everywhere and (use.form == "method" or source.torch_name(named(node)) == use.kind)
    full = f"torch.{to}" if short else f"torch.nn.functional.{function}"
    if use.form == "name":
        patch.replace(node, like(job, node, full))
        return
    assert isinstance(node, ast.Call)
    if use.form == "method":
        assert isinstance(node.func, ast.Attribute)
        if node.args or node.keywords:
            raise NoEditError("the activation has settings of its own")
        if everywhere:
            end = source.span(node.func)[1]
            patch.cut(end - len(node.func.attr), end, to + "_" * node.func.attr.endswith("_"))
        else:
            patch.replace(node, f"{patch.name(full)}({source.segment(node.func.value)})")
        return
    extra = [k for k in node.keywords if k.arg not in ("input", "inplace")]
    if len(node.args) + sum(k.arg == "input" for k in node.keywords) != 1 or any(k.arg != "dim" for k in extra):
        raise NoEditError("the activation has settings of its own")
    for k in extra:
        patch.drop_keyword(node, k)
    patch.replace(node.func, like(job, node.func, full))


def remove(job: Job) -> None:
    """Take the activation at the change's lines away; with setting `to`, write another one instead."""
    word = job.word("to")
    if word is not None and word.lower() not in _NONE:
        swap(job)
        return
    named = kind_of(job.word("op", "from", "activation"))
    found = written_uses(job, named)
    for use in found:
        if not any(
            other.node in job.source.above(use.node) for other in found
        ):  # the last one to act, not those inside it
            _remove(job, use)
    if any(u.kind == "sigmoid" for u in found):
        _loss_of_scores(job)


def _loss_of_scores(job: Job) -> None:
    """A loss that wants probabilities gets its form for scores, now that there is no sigmoid before it."""
    source, patch = job.source, job.patch
    losses = ("nn.BCELoss", "F.binary_cross_entropy")
    written = [n for n in [*source.nodes(ast.Attribute), *source.nodes(ast.Name)] if source.torch_name(n) in losses]
    if len(written) > 1:
        raise NoEditError("several losses want probabilities")
    for node in written:
        name = source.torch_name(node)
        if name == "nn.BCELoss":
            patch.replace(node, like(job, node, "torch.nn.BCEWithLogitsLoss"))
        elif name == "F.binary_cross_entropy":
            patch.replace(node, like(job, node, "torch.nn.functional.binary_cross_entropy_with_logits"))
        patch.notes.append("the network now gives scores: apply a sigmoid where its predictions are used")


def _remove(job: Job, use: Use) -> None:
    patch, node = job.patch, use.node
    if use.form == "method":
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        patch.unwrap(node, node.func.value)
    elif use.form == "function":
        assert isinstance(node, ast.Call)
        given = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "input"), None)
        if given is None or isinstance(given, ast.Starred):
            raise NoEditError("the activation's operand cannot be told")
        patch.unwrap(node, given)
    elif use.form == "module":
        drop_module(job, node)
    elif use.form == "class":
        patch.replace(node, like(job, node, "torch.nn.Identity"))
    else:
        raise NoEditError("an activation that is passed by name cannot be taken away")
