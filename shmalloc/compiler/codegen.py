"""IR text to object code, by llvmlite: the only file that imports it.

``host()`` is the processor at hand, ``BASELINE`` what a shipped image may rely on: x86-64-v2
with cmpxchg16b. Code is position independent and in the small model; everything that it needs from
outside comes through the table of imports (runtime.py).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import Any

from shmalloc.errors import EngineError

LEVEL = 2


@dataclass(frozen=True)
class Target:
    """A processor to compile for: an LLVM triple, a CPU name, features such as "+cx16"."""

    triple: str
    cpu: str
    features: str

    @property
    def architecture(self) -> str:
        return self.triple.split("-")[0]


def _binding() -> Any:
    import llvmlite.binding as llvm

    return llvm


@cache
def host() -> Target:
    """The processor of this machine."""
    llvm = _binding()
    architecture = {"AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    features = llvm.get_host_cpu_features().flatten()
    return Target(f"{architecture}-unknown-linux-gnu", llvm.get_host_cpu_name(), features)


BASELINE = Target("x86_64-unknown-linux-gnu", "x86-64-v2", "+cx16")


@cache
def _machine(target: Target) -> Any:
    llvm = _binding()
    if target.architecture == host().architecture:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=LEVEL, reloc="pic", codemodel="small"
    )


def _optimized(text: str, target: Target) -> Any:
    llvm = _binding()
    machine = _machine(target)
    try:
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = target.triple, str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise EngineError(f"the compiler wrote IR that LLVM refuses: {error}") from error
    options = llvm.create_pipeline_tuning_options(speed_level=LEVEL)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def object_code(text: str, target: Target) -> bytes:
    """Compile a module of IR. Raises ``EngineError`` if LLVM refuses it."""
    module = _optimized(text, target)
    made: bytes = _machine(target).emit_object(module)
    return made


def optimized_ir(text: str, target: Target) -> str:
    """A module of IR after LLVM's optimization."""
    return str(_optimized(text, target))


def assembly_code(text: str, target: Target) -> str:
    """The assembly text of a module of IR."""
    module = _optimized(text, target)
    made: str = _machine(target).emit_assembly(module)
    return made
