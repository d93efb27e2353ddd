"""Programs about claims: one claim that is taken, given back, marked dead and recovered at once.

CPUs 0 to 2 act; the claim is none of theirs (CLAIM). Its life FIRST has begun, or was given back,
or marked, before they start.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.contig import set_isolated, unisolate_range
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.kernels.reap import reap
from shmalloc.kernels.recover import recover
from shmalloc.kernels.reporting import cpu_at, cpu_of, report
from shmalloc.kernels.slots import claim_slot, is_dead, mark_dead, release_slot, settle_on
from shmalloc.kernels.zone import isolator_of
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed, load
from stress.machine.program import Program
from stress.programs.checks import first_violation, pages_are_sound
from stress.programs.held import ONLY_ZONE, RESULT, note_result, slot_at
from stress.programs.initial_state import InitialState, catalogue
from stress.programs.written import check_block, sign_block

CLAIM = 7
FIRST = 5  # the epoch of its life: odd
PID = 4711  # of the claimers, and their number
OLD_PID = 99
OWNER = 77  # owner word of the pages of both lives
TOOK, GAVE_BACK, MARKED = 1, 2, 3  # what a CPU did, noted as its result; 0: nothing


@kernel
def claimer(mem: Memory, claim: Claim) -> int:
    """Takes the claim for a process, on the CPU that it runs on itself."""
    taken = claim_slot(mem, CLAIM, cpu_of(mem, claim), PID + claim, 1)
    return note_result(mem, claim, TOOK if taken == CLAIM else 0)


@kernel
def releaser(mem: Memory, claim: Claim) -> int:
    """The owner of the first life gives the claim back."""
    return note_result(mem, claim, 0 if release_slot(mem, CLAIM, FIRST) < 0 else GAVE_BACK)


@kernel
def marker(mem: Memory, claim: Claim) -> int:
    """Has seen the first life, and its process dead: marks it, late perhaps, and recovers."""
    if mark_dead(mem, claim, CLAIM, FIRST) == 0:
        return 0
    recover(mem, claim)
    return note_result(mem, claim, MARKED)


@kernel
def recoverer(mem: Memory, claim: Claim) -> int:
    """Recovers what is marked."""
    recover(mem, claim)
    return 0


@kernel
def newcomer(mem: Memory, claim: Claim) -> int:
    """Takes the claim; if it gets it, allocates a page as the claim, writes to it, and frees it."""
    if claim_slot(mem, CLAIM, cpu_of(mem, claim), PID + claim, 1) != CLAIM:
        return note_result(mem, claim, 0)
    pfn = alloc_pages(mem, CLAIM, 0, c.MT_MOVABLE, OWNER)
    if pfn >= 0:
        sign_block(mem, CLAIM, pfn, 0)
        check_block(mem, CLAIM, pfn, 0)
        free_pages_of(mem, CLAIM, pfn, 0, OWNER)
    return note_result(mem, claim, TOOK)


@kernel
def reaper(mem: Memory, claim: Claim) -> int:
    """The supervisor of the first life, which is over, frees the page that it left."""
    return reap(mem, claim, CLAIM, FIRST)


@kernel
def recoverer_and_reaper(mem: Memory, claim: Claim) -> int:
    """Recovers the first life, and frees the page that it left."""
    recover(mem, claim)
    return reap(mem, claim, CLAIM, FIRST)


@kernel
def claimer_behind_others(mem: Memory, claim: Claim) -> int:
    """Takes the claim, whose labels begin again: no pageblock may bear one of its old ones."""
    did = claimer(mem, claim)
    if did != 0 and isolator_of(mem, 0) >= 0:
        report(mem, claim, c.X_LOST_OWNER, 0, -1, isolator_of(mem, 0))
    return did


@kernel
def ender(mem: Memory, claim: Claim) -> int:
    """Ends the isolation that an old life of the claim left."""
    return unisolate_range(mem, claim, 0, 1)


@kernel
def one_life(mem: Memory) -> int:
    """The claim is free, or its owner is the one that was told so; its first life ended once."""
    slot = cpu_at(mem, CLAIM)
    epoch = load(mem, slot + c.C_EPOCH)
    owner = -1
    ends = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        did = mem[slot_at(mem, cpu, RESULT)] >> 1
        ends += int(did == GAVE_BACK) + int(did == MARKED)
        if did == TOOK:
            if owner >= 0:
                report(mem, cpu, c.X_DOUBLE_ALLOC, c.AT_CPU | CLAIM, owner, cpu)
            owner = cpu
    if ends > 1:  # a process that gave its claim back would be reaped
        report(mem, 0, c.X_LOST_OWNER, c.AT_CPU | CLAIM, 1, ends)
    if is_dead(mem, CLAIM) or (epoch & 1 != 0) != (owner >= 0):
        report(mem, 0, c.I_PROGRESS, c.AT_CPU | CLAIM, owner, epoch)
    elif owner >= 0 and (mem[slot + c.C_PID] != PID + owner or mem[slot + c.C_CPU] != owner):
        report(mem, owner, c.X_LOST_OWNER, c.AT_CPU | CLAIM, PID + owner, mem[slot + c.C_PID])
    if first_violation(mem) != 0:
        return first_violation(mem)
    return pages_are_sound(mem)


def first_life(cpus: int = 2) -> InitialState:
    """CLAIM is in its first life."""
    state = InitialState.booted(2, cpus=cpus, claims=CLAIM + 1)
    at = state.layout.cpu(CLAIM)
    state.ram[at + c.C_EPOCH], state.ram[at + c.C_PID] = FIRST, OLD_PID
    state.ram[c.H_CLAIMS_USED] = CLAIM + 1
    return state


def ended(cpus: int = 2) -> InitialState:
    """CLAIM was given back."""
    state = first_life(cpus)
    state.ram[state.layout.cpu(CLAIM) + c.C_EPOCH] = FIRST + 1
    state.ram[state.layout.cpu(CLAIM) + c.C_PID] = 0
    return state


def marked(cpus: int = 2) -> InitialState:
    """The process of the first life is dead, and CLAIM is marked."""
    state = first_life(cpus)
    state.ram[state.layout.cpu(CLAIM) + c.C_DEAD] = FIRST + 1
    return state


def recovered(cpus: int = 2) -> InitialState:
    """The process of the first life died and was recovered."""
    state = ended(cpus)
    state.ram[state.layout.cpu(CLAIM) + c.C_DEAD] = FIRST + 1
    return state


def with_page(state: InitialState) -> InitialState:
    """The first life left a page, with the owner word that the next one uses."""
    at = state.layout.cpu(CLAIM) + c.C_EPOCH
    now, state.ram[at] = state.ram[at], FIRST
    settle_on(state.ram, CLAIM, 1)
    assert alloc_pages(state.ram, CLAIM, 0, c.MT_MOVABLE, OWNER) >= 0, "no page"
    state.ram[at] = now
    return state


def claim_claim(name: str) -> Program:
    return ended().program(
        name,
        (claimer, claimer),
        check=one_life,
        story="two processes take one free claim: the swap of claim_slot lets one of them in, and"
        " only that one writes C_CPU and C_PID",
    )


def claim_mark(name: str) -> Program:
    return ended().program(
        name,
        (marker, claimer),
        check=one_life,
        story="mark_dead of a life that was given back, against claim_slot between its look and"
        " its swap: a mark that counted would let recovery wipe the new owner",
    )


def release_mark(name: str) -> Program:
    return first_life().program(
        name,
        (releaser, marker),
        check=one_life,
        story="the swap of release_slot against that of mark_dead: one of them ends the life, and"
        " what was given back is not recovered",
    )


def release_claim_mark_3(name: str) -> Program:
    return first_life(cpus=3).program(
        name,
        (releaser, claimer, marker),
        check=one_life,
        story="release_slot, claim_slot of the next owner and a mark that was meant for the first:"
        " each swap compares the epoch that it saw",
    )


def recover_claim(name: str) -> Program:
    return marked().program(
        name,
        (recoverer, claimer),
        check=one_life,
        story="end_life of recovery clears C_PID and then ends the life by one swap; claim_slot"
        " before it fails, and one behind it writes C_PID afterwards",
    )


def recover_recover_claim_3(name: str) -> Program:
    return marked(cpus=3).program(
        name,
        (recoverer, recoverer, claimer),
        check=one_life,
        story="two recoverers of one life and its next owner: the second recoverer comes when the"
        " life is over, and must leave the new one alone",
    )


def reap_claim(name: str) -> Program:
    return with_page(recovered()).program(
        name,
        (reaper, newcomer),
        check=one_life,
        story="a claim is taken again before what its dead life left is reaped: the labels of the"
        " two lives differ in the epoch alone, and their owner words not at all",
    )


def recover_newcomer(name: str) -> Program:
    return with_page(marked()).program(
        name,
        (recoverer_and_reaper, newcomer),
        check=one_life,
        story="a claim is taken again as soon as its recovery has ended the first life, and before"
        " that one is reaped: end_life is the last step of sweep, behind the last look at a label",
    )


def recover_newcomer_3(name: str) -> Program:
    return with_page(marked(cpus=3)).program(
        name,
        (recoverer_and_reaper, newcomer, recoverer),
        check=one_life,
        story="claims-recover-newcomer while another process recovers, too: it may begin behind"
        " the end of the first life, and must leave the page of the second one alone",
    )


def labels_again(name: str) -> Program:
    state = ended()
    zone, at = state.layout.zone(ONLY_ZONE), state.layout.cpu(CLAIM) + c.C_EPOCH
    state.ram[at] = 1
    assert set_isolated(state.ram, zone, CLAIM, 0, 1) == 0, "page 0 was isolated"
    state.ram[at] = c.LABEL_EPOCH_MASK + 1  # the next life has the label of the first one
    return state.program(
        name,
        (claimer_behind_others, ender),
        check=one_life,
        story="a claim has used up the labels of its pages, and its first life's is on a pageblock"
        " that it isolated: it is not taken before another process has ended that isolation",
    )


PROGRAMS = catalogue(
    "claims",
    labels_again,
    claim_claim,
    claim_mark,
    release_mark,
    release_claim_mark_3,
    recover_claim,
    recover_recover_claim_3,
    reap_claim,
    recover_newcomer,
    recover_newcomer_3,
)
