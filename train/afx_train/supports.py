"""When a copied argument counts as missing: `calibration.min_support`, found on development data.

Decoding holds a copied argument to spans of the texts at hand. Where they have the value, the
grammar leaves the model most of its own probability; where they do not, little of it is left. Dev
requests give both: as they are, and with the value replaced by `it`, where it then stands nowhere.
Each is decoded greedily, as on the device, but in torch.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import llguidance
import torch

from afx_train.evaluate import some_trajectories
from afx_train.examples import Example, situation
from afx_train.model import AdaptedModel, Rows
from afx_train.refusals import Decision
from afx_train.scoring import allowed_ids
from afx_train.task import Task
from afx_train.trajectory import Trajectory, TrajectoryStep
from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.grammar import copying_grammar
from agentflux.contracts.prompts import shown_texts
from agentflux.contracts.spans import is_span
from agentflux.contracts.tools import ToolSpec

MAX_TRAJECTORIES = 60
_MAX_TOKENS = 96
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)":')


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A prompt whose copied, required arguments are all there, or one of which is missing."""

    example: Example
    spec: ToolSpec
    seen: CatalogTool
    texts: tuple[str, ...]
    missing: bool

    @property
    def asked_for(self) -> frozenset[str]:
        """The parameters that the device asks for where they are missing."""
        return frozenset(self.spec.input_schema.get("required") or ()) & frozenset(self.seen.copied)


def support_decisions(model: AdaptedModel, task: Task) -> list[Decision]:
    """The support of each probe; refusing it is right where a value is missing."""
    return [
        Decision(
            probability=support(model, task, probe),
            right=not probe.missing,
            stops=False,
            should_stop=probe.missing,
        )
        for probe in probes(task)
    ]


def probes(task: Task) -> Iterator[Probe]:
    """The dev split's calls with a copied, required argument, each also without its value."""
    catalog = {(t.tool_set, t.name): t for t in task.catalog()}
    dev = [t for t in task.corpus.trajectories if t.split == "dev"]
    chosen = some_trajectories((t.id for t in dev), MAX_TRAJECTORIES)
    for trajectory in (t for t in dev if chosen is None or t.id in chosen):
        for number, step in enumerate(trajectory.steps):
            seen = catalog.get((step.tool_set, step.tool))
            if task.plan.tool not in (None, step.tool) or seen is None or not seen.copied:
                continue
            whole = _probe(task, trajectory, number, step, seen, missing=False)
            value = next((step.arguments.get(name) for name in sorted(whole.asked_for)), None)
            if not isinstance(value, str) or not value:
                continue
            yield whole
            request = trajectory.request.replace(value, "it")
            without = trajectory.model_copy(update={"request": request})
            lacking = _probe(task, without, number, step, seen, missing=True)
            if request != trajectory.request and not is_span(value, lacking.texts):
                yield lacking


def support(model: AdaptedModel, task: Task, probe: Probe) -> float:
    """The smallest share of the model's probability that the grammar leaves over.

    1 where that is at no argument that the device would ask for.
    """
    example, codec = probe.example, task.codec
    variant = task.variants[example.group][0]
    static = variant.static
    seen = probe.seen
    grammar = copying_grammar(probe.spec, seen.copied, probe.texts, worded=seen.worded)
    matcher = llguidance.LLMatcher(codec.constrained, grammar)
    lowest, at, done = 1.0, 0, list[int]()
    with torch.no_grad():
        rows = Rows(lead=variant.lead, before=[example.before], tokens=[example.prompt])
        hidden, pasts = model.prefill(static, rows)
        while not matcher.is_stopped() and len(done) < _MAX_TOKENS:
            if step := matcher.compute_ff_tokens():
                matcher.consume_tokens(step)
                done += step
                continue
            if done:
                hidden = model.extended(static, pasts, [tuple(done)])
            probabilities = model.logits(hidden[-1:])[0].softmax(0).cpu()
            allowed = allowed_ids(matcher.compute_bitmask())
            if (left := float(probabilities[allowed].sum())) < lowest:
                lowest, at = left, len(done)
            token = int(allowed[probabilities[allowed].argmax()])
            if token == codec.end_token:
                break
            matcher.consume_token(token)
            done.append(token)
    keys = _KEY.findall(codec.text(done[:at]))
    return lowest if keys and keys[-1] in probe.asked_for else 1.0


def _probe(  # noqa: PLR0913 - internal
    task: Task,
    trajectory: Trajectory,
    number: int,
    step: TrajectoryStep,
    seen: CatalogTool,
    *,
    missing: bool,
) -> Probe:
    spec = task.corpus.tool(step).spec
    (part,) = task.parts
    return Probe(
        example=part.maker.arguments(trajectory, number, step, spec),
        spec=spec,
        seen=seen,
        texts=shown_texts(situation(trajectory, number)),
        missing=missing,
    )
