"""Takes from a process what it must not have: capabilities, ways to new ones, groups, root. For good."""

from __future__ import annotations

import os

from . import kernel
from .plan import CagePlan
from .seccomp import make_filter


def become_agent(plan: CagePlan) -> None:
    """This process is the job's user from here on, with nothing above that."""
    _lock()
    if not plan.rootless:
        os.setgroups([])
        os.setresgid(plan.user.gid, plan.user.gid, plan.user.gid)
        os.setresuid(plan.user.uid, plan.user.uid, plan.user.uid)
    kernel.set_capabilities(0, 0)
    _close(plan)


def become_root_inside(plan: CagePlan, user_namespace: int) -> None:
    """Uid 0 with every capability in the namespace that owns the job's network, and nobody outside it."""
    os.setns(user_namespace, os.CLONE_NEWUSER)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _close(plan)


def become_init(plan: CagePlan) -> None:
    """The job's first process keeps its uid, so that the agent cannot touch it, and the power to signal the agent."""
    # first: without root the agent has the same uid, and only what this process has more of keeps it from tracing it
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    _lock()
    kept = 0 if plan.rootless else 1 << kernel.CAP_KILL
    kernel.set_capabilities(kept, kept)
    _close(plan)


def _lock() -> None:
    for number in range(kernel.every_capability().bit_length()):
        kernel.prctl(kernel.PR_CAPBSET_DROP, number)
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    kernel.prctl(kernel.PR_SET_SECUREBITS, kernel.SECUREBITS_LOCKED)


def _close(plan: CagePlan) -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_filter(make_filter(os.uname().machine, nested=plan.nested, root_inside=plan.root_inside))
