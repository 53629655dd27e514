"""Kernels to LLVM IR text, and that to machine code. Loaded when it is first needed: see `target.late_compiler`."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Mapping

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from hapgop.native.emit import emit
from hapgop.native.target import is_x86
from hapgop.tile import Kernel

_LOCK = threading.RLock()
# `sroa` makes registers of the accumulators, `simplifycfg` tidies the branches. The rest of -O2 finds nothing more in
# this code and takes ten times as long.
_PASSES = ("sroa", "simplify_cfg")


@functools.cache
def _initialize() -> None:
    # Loop strength reduction takes nine tenths of the time that code generation takes, and finds nothing: addresses are
    # computed where they belong by `emit`.
    llvm.set_option("", "-disable-lsr")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def target(cpu: str) -> tuple[str, str]:
    """(LLVM CPU name, feature string): of this machine for "host", of the named CPU otherwise."""
    if cpu != "host":
        return cpu, ""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


# The x86 CPUs without a fused multiply-add that one may name; every other name stands for one that has it.
_WITHOUT_FMA = ("generic", "x86-64", "x86-64-v2", "nehalem", "westmere", "sandybridge", "ivybridge")


def has_fma(cpu: str) -> bool:
    """Whether a CPU multiplies and adds in one instruction."""
    if not is_x86():
        return True
    return bool(llvm.get_host_cpu_features().get("fma")) if cpu == "host" else cpu not in _WITHOUT_FMA


# The x86 CPUs that one may name and that round to bfloat16 in hardware.
_WITH_BF16 = ("cooperlake", "sapphirerapids", "emeraldrapids", "graniterapids", "znver4", "znver5")


def has_bf16(cpu: str) -> bool:
    """Whether a CPU rounds float32 to bfloat16 in one instruction (AVX512-BF16)."""
    if not is_x86():
        return False
    return bool(llvm.get_host_cpu_features().get("avx512bf16")) if cpu == "host" else cpu in _WITH_BF16


def _machine(cpu: str) -> llvm.TargetMachine:
    _initialize()
    name, features = target(cpu)
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )


def _optimized(ir: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    module = llvm.parse_assembly(ir, llvm.create_context())
    module.triple = llvm.get_process_triple()
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_module_pass_manager()
    for name in _PASSES:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)
    return module


def compile_object(ir: str, cpu: str = "host") -> bytes:
    """The object file (ELF, Mach-O or COFF) of a module."""
    machine = _machine(cpu)
    module = _optimized(ir, machine)
    with ffi.OutputString() as error:
        # llvmlite lets one thread at a time into LLVM. Code generation is most of the time that a kernel takes, and
        # touches only this module, its context and this machine, which are all this call's own.
        emit = ffi.lib.LLVMPY_TargetMachineEmitToMemory
        buffer = getattr(emit, "_cfn", emit)(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        start, size = ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(start, size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def assembly(ir: str, cpu: str = "host") -> str:
    """The assembly of a module, for tests that count instructions and for the curious."""
    machine = _machine(cpu)
    return str(machine.emit_assembly(_optimized(ir, machine)))


class Loaded:
    """An object in memory by LLVM's own loader: see `elf.Loaded`."""

    def __init__(self, image: bytes, symbols: Mapping[str, int]) -> None:
        _initialize()
        # Measured: what LLVM keeps of a loaded object is about five times the file.
        self.bytes = 4096 + 5 * len(image)
        with _LOCK:
            for name, address in symbols.items():
                llvm.add_symbol(name, address)
            self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine("host"))
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(image))
            self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function starts; 0 where there is none of that name."""
        return int(self._engine.get_function_address(name))


def text(kernel: Kernel, cpu: str) -> str:
    """A kernel as LLVM's text."""
    return emit(kernel, is_x86(), has_fma(cpu), has_bf16(cpu))


def _alone_at_a_fork() -> None:
    """A child has no other thread that could give back what is held: nobody is within LLVM when it is made.

    llvmlite's lock is among its internals; without it, as in other versions, only ours is looked after.
    """
    # Those of `before` are called from the last to the first: in the order in which they are taken elsewhere.
    for lock in (getattr(ffi.lib, "_lock", None), _LOCK):
        if lock is not None:
            enter, leave = lock.__enter__, functools.partial(lock.__exit__, None, None, None)
            os.register_at_fork(before=enter, after_in_parent=leave, after_in_child=leave)


if hasattr(os, "register_at_fork"):
    _alone_at_a_fork()
