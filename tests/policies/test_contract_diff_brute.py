"""``contract diff`` against brute force: small contracts of every shape, everything asked in a small world.

``DIFF_PAIRS`` says how many pairs (``make diffs`` takes ten thousand), ``DIFF_SEED`` where the seeds begin.
"""

from __future__ import annotations

import os
from random import Random

import pytest
from clawproxy.policies.contract_diff import compare as compare_module
from clawproxy.policies.contract_diff import models as models_module
from clawproxy.policies.contract_diff.compare import compare
from clawproxy.policies.contract_diff.power import Power, Proof
from clawproxy.policies.fixtures import ALLOW, ASK, decide_fixture
from clawproxy.policies.policy import Policy

from .brute_force import permits_more
from .makers import policy_of
from .small_contracts import pair

PAIRS = int(os.environ.get("DIFF_PAIRS", "120"))
SEED = int(os.environ.get("DIFF_SEED", "1"))


def _faults(seed: int) -> list[str]:
    before, after = (policy_of(document) for document in pair(Random(seed)))
    found = compare(before, after)
    added, removed = permits_more(after, before)
    faults = []
    for what, powers, brute, here, there in (
        ("added", found.added, added, after, before),
        ("removed", found.removed, removed, before, after),
    ):
        # an example from outside the small world is a fact like those in it: both contracts are asked about it
        if bool(brute) != bool(powers) and not any(_has_example(power, here, there) for power in powers):
            faults.append(f"seed {seed}: {what}: {powers[:2]} against {brute[:3]}")
        faults += [f"seed {seed}: {what}: not decided: {power}" for power in powers if power.proof is Proof.OPEN]
        faults += [f"seed {seed}: {what}: shows nothing: {power}" for power in powers if not _shows(power, here, there)]
    return faults


def _has_example(power: Power, here: Policy, there: Policy) -> bool:
    return power.example is not None and _shows(power, here, there)


def _shows(power: Power, here: Policy, there: Policy) -> bool:
    """Whether the example of a power is one, as both contracts decide today."""
    if power.example is None:
        return True
    if here.demands or there.demands:
        return True
    levels = [{ALLOW: 2, ASK: 1}.get(decide_fixture(power.example, policy).word, 0) for policy in (here, there)]
    return levels[0] > levels[1]


@pytest.mark.timeout(600 + PAIRS)
def test_a_comparison_says_what_brute_force_finds() -> None:
    faults = [fault for seed in range(SEED, SEED + PAIRS) for fault in _faults(seed)]
    assert not faults, "\n".join([f"{len(faults)} faults", *faults[:10]])


@pytest.mark.parametrize(
    ("topic", "seed"),
    [
        ("data_powers", 9),
        ("demand_powers", 21),
        ("host_powers", 39),
        ("read_only_powers", 45),
        ("strip_powers", 48),
        ("refusal_text_powers", 50),
        ("life_powers", 51),
        ("tool_call_powers", 81),
        ("feature_powers", 82),
        ("budget_powers", 122),
        ("job_approval_powers", 186),
        ("declared_tool_powers", 365),
    ],
)
def test_brute_force_notices_a_topic_that_is_left_out(topic: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed's pair differs in this topic alone."""
    assert _faults(seed) == []
    monkeypatch.setattr(compare_module, topic, lambda *args, **more: [])
    assert _faults(seed) != []


def test_brute_force_notices_providers_that_are_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _faults(496) == []
    monkeypatch.setattr(models_module, "PROVIDERS", ())
    assert _faults(496) != []
