"""From the workers and programs of an earlier version to ours, where they cannot share the kernel's maps."""

from __future__ import annotations

import asyncio
import logging

from meshd import log
from meshd.agent.enrolment import Enrolment
from meshd.agent.workers import Workers
from meshd.datapath.errors import DatapathError
from meshd.datapath.loading.handover import Handover, State

_logger = logging.getLogger("meshd.agent.handover")

_QUIET_SECONDS = 1.5
"""How long earlier workers have to stop to accept. Shorter than a beat is good for."""
_RETRY_SECONDS = 1.0
_POLL_SECONDS = 0.002


async def hand_over(handover: Handover | None, workers: Workers, enrolment: Enrolment) -> None:
    """See it through, and let earlier workers drain. None: there is nothing but workers to hand over.

    Earlier workers stop to accept, the programs are replaced, ours begin: connections that come meanwhile
    wait in the listeners' queues, which both have.
    """
    if handover is None:
        workers.may_drain.set()
        return
    await workers.can_succeed()
    while handover.state is State.WAITING:
        try:
            handover.stand_in(workers.slots[0].place)
            workers.may_drain.set()
            await _until_quiet(handover, workers)
            handover.switch()
        except (DatapathError, OSError) as error:
            # The earlier programs serve on, without the workers that they belong to.
            log.event(_logger, logging.ERROR, "programs not replaced", reason=error, again_in=_RETRY_SECONDS)
            await asyncio.sleep(_RETRY_SECONDS)
    enrolment.release()
    log.event(_logger, logging.INFO, "programs in force")
    await workers.alone.wait()
    try:
        handover.finish()
    except OSError as error:
        log.event(_logger, logging.ERROR, "earlier programs not removed", reason=error)


async def _until_quiet(handover: Handover, workers: Workers) -> None:
    deadline = asyncio.get_running_loop().time() + _QUIET_SECONDS
    while not handover.quiet([slot.place for slot in workers.succeeded.values()]):
        if asyncio.get_running_loop().time() > deadline:
            log.event(_logger, logging.WARNING, "earlier workers do not say that they have stopped")
            return
        await asyncio.sleep(_POLL_SECONDS)
