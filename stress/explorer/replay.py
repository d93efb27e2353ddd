"""``replay``: repeat the failure of a token, on either engine."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from shmalloc.errors import MisuseError
from stress.explorer.digest import digest_of
from stress.explorer.loading import stop_loading
from stress.explorer.report.cause import cause_of
from stress.explorer.report.explain import trace_of
from stress.explorer.report.failure import Failure
from stress.explorer.token import Directive, Token
from stress.explorer.witness import preempted_steps, run_directives, steering, traced_machine
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.engines import make_machine
from stress.machine.models import MODELS
from stress.machine.program import Program

CLOCKED_KINDS = ("race", "torn")


@dataclass(frozen=True, eq=False, repr=False)
class Replay:
    """What a token's schedule does now.

    ``reproduced``: it fails in the way that the token says. ``changed``: the kernels or the initial
    memory have changed since the token was made, so the schedule may mean something else.
    ``kind``, ``code``: how it fails now; kind "passed" if it does not.
    """

    program: Program
    token: str
    reproduced: bool
    changed: bool
    kind: str
    code: int
    failure: Failure | None

    def report(self, width: int = 120, paths: bool = False) -> str:
        """The failure line by line, if there is one, and the outcome in one sentence."""
        shown = "" if self.failure is None else f"{self.failure.report(width, paths)}\n"
        return f"{shown}{self}"

    def __str__(self) -> str:
        """What happened, in one sentence."""
        token = Token.parse(self.token)
        wanted = f"{token.kind} {token.code}" if token.code else token.kind
        now = f"{self.kind} {self.code}" if self.code else self.kind
        if self.reproduced and self.changed:
            return (
                f"the kernels have changed since this token was made; the schedule still ends in"
                f" {wanted}, but its steps may not be the original ones"
            )
        if self.reproduced:
            return f"reproduced: {wanted}"
        if self.changed:
            return (
                f"the kernels have changed since this token was made ({wanted}); its schedule now"
                f" ends in: {now}. Explore again to know whether the bug is gone"
            )
        return f"not reproduced: the token says {wanted}, the schedule ended in: {now}"

    def __repr__(self) -> str:
        return f"<Replay {self.program.name}: {self}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the page of the failure, or the sentence."""
        line = f"<p>{escape(str(self))}</p>"
        return line if self.failure is None else line + self.failure._repr_html_()


def replay(program: Program, token: str, engine: str = "interpreted") -> Replay:
    """Run the schedule of ``token`` again: interpreted by default, so breakpoints work.

    Raises ``MisuseError`` for an invalid token, or one of another program.
    """
    stop_loading()
    parsed = Token.parse(token)
    _require_same_program(program, parsed)
    settings = Settings(
        step_limit=parsed.step_limit,
        model=parsed.memory,
        parking=parsed.parking,
        free_spins=parsed.free_spins,
        races=parsed.kind in CLOCKED_KINDS,
    )
    machine, signature = traced_machine(program, settings, parsed.directives)
    if engine != "interpreted":
        other = make_machine(engine, program, steering(settings, len(program.threads)))
        signature = run_directives(other, parsed.directives)
    kind, code, _ = signature or ("passed", 0, 0)
    failure = None
    if signature is not None:
        trace = trace_of(machine, preempted_steps(machine))
        failure = Failure(
            program=program,
            kind=kind,
            code=code,
            schedule=str(parsed),
            shrunk=True,
            preemptions=int(machine.block[cb.PREEMPTIONS]),
            trace=trace,
            cause=cause_of(program, kind, code, trace),
            memory_model=parsed.memory,
        )
    return Replay(
        program=program,
        token=str(parsed),
        reproduced=(kind, code) == (parsed.kind, parsed.code),
        changed=parsed.digest != digest_of(program),
        kind=kind,
        code=code,
        failure=failure,
    )


def _require_same_program(program: Program, token: Token) -> None:
    """A target with a colon is the place of a program, not its name."""
    if ":" not in token.target and token.target != program.name:
        raise MisuseError(
            f"token: it belongs to another program, {token.target}, not to {program.name};"
            " replay it with that one"
        )
    actors = [d.actor for d in token.directives if d.actor is not None]
    actors += [d.following for d in token.directives if isinstance(d, Directive)]
    cpus = len(program.threads)
    if actors and max(actors) >= MODELS[token.memory].actors(cpus):
        raise MisuseError(
            f"token: names actor {max(actors)}, but {program.name} has {cpus} CPUs; it is a token"
            f" of another program ({token.target})"
        )
