"""Machines made of what an operating system would say, and the one that runs this."""

import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from hapgop.errors import InputError
from hapgop.machine import AVX2, AVX512, NEON, Machine, facts, host
from hapgop.machine.detect import from_facts
from hapgop.machine.facts import Facts, gather, linux, mac

AVX2_FLAGS = "fpu sse4_2 avx avx2 fma"
AVX512_FLAGS = AVX2_FLAGS + " avx512f avx512cd avx512bw avx512dq avx512vl"
KIB = 1024


def system(root, *, cpuinfo="", caches=(), siblings=None, quota=None):
    """A folder with the files of a Linux."""
    files = {"proc/cpuinfo": cpuinfo}
    for index, (level, kind, size) in enumerate(caches):
        folder = f"sys/devices/system/cpu/cpu0/cache/index{index}"
        files |= {f"{folder}/level": f"{level}\n", f"{folder}/type": f"{kind}\n", f"{folder}/size": f"{size}\n"}
    for cpu, text in (siblings or {}).items():
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = f"{text}\n"
    if quota:
        files["sys/fs/cgroup/cpu.max"] = f"{quota}\n"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def x86(flags, name="Some CPU"):
    first = f"processor\t: 0\nmodel name\t: {name}\nflags\t\t: {flags}\n"
    return f"{first}\nprocessor\t: 1\nmodel name\t: other\nflags\t\t: \n"


CACHES = [(1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2048K"), (3, "Unified", "30M")]


@pytest.mark.parametrize(
    ("flags", "isa", "vector_bytes", "registers"),
    [
        (AVX512_FLAGS, "avx512", 64, 32),
        (AVX512_FLAGS.replace("avx512vl", ""), "avx2", 32, 16),
        (AVX2_FLAGS, "avx2", 32, 16),
        (AVX2_FLAGS.replace("fma", ""), "baseline", 16, 16),
        ("fpu sse2", "baseline", 16, 16),
        ("", "baseline", 16, 16),
    ],
)
def test_x86_linux(tmp_path, flags, isa, vector_bytes, registers):
    root = system(tmp_path, cpuinfo=x86(flags), caches=CACHES)
    machine = from_facts(linux("x86_64", {0, 1}, root), {})
    caches = (48 * KIB, 2048 * KIB, 30 * KIB * KIB)
    assert machine == Machine("Some CPU", "host", isa, vector_bytes, registers, *caches, 2)


@pytest.mark.parametrize(("usable", "counted"), [({0}, 16), ({0, 1}, 32), (set(range(64)), 480)])
def test_of_a_whole_socket_s_cache_each_core_counts_on_a_share(tmp_path, usable, counted):
    root = system(tmp_path, cpuinfo=x86(AVX512_FLAGS), caches=[*CACHES[:3], (3, "Unified", "480M")])
    assert from_facts(linux("x86_64", usable, root), {}).l3 == counted * KIB * KIB


def test_arm_linux(tmp_path):
    caches = [(1, "Data", "64K"), (1, "Instruction", "64K"), (2, "Unified", "1024K")]
    root = system(tmp_path, cpuinfo="processor\t: 0\nFeatures\t: fp asimd\n", caches=caches)
    machine = from_facts(linux("aarch64", [3, 1, 0], root), {})
    # There is no third level, so the second is the largest.
    assert machine == Machine("aarch64", "host", "neon", 16, 32, 64 * KIB, 1024 * KIB, 1024 * KIB, 3)


def test_a_linux_that_says_nothing(tmp_path):
    machine = from_facts(linux("riscv64", {0}, tmp_path), {})
    assert machine == Machine("riscv64", "host", "baseline", 16, 16, 32 * KIB, 512 * KIB, 8 * KIB * KIB, 1)


def test_nonsense_in_the_files_is_left_out(tmp_path):
    root = system(tmp_path, caches=[("", "Data", "32K"), (2, "Unified", "much"), (3, "Unified", "")], quota="max")
    assert linux("x86_64", {0}, root).caches == {}
    assert linux("x86_64", {0}, root).cores == 1


@pytest.mark.parametrize(
    ("usable", "siblings", "cores"),
    [
        ({0, 1, 2, 3}, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, 2),
        ({0, 1, 2}, {0: "0,4", 1: "1,5", 2: "2,6"}, 3),
        ({1, 3}, {1: "0-1", 3: "2-3"}, 2),
        ({0, 1, 2, 3}, None, 4),
    ],
)
def test_cores_are_the_usable_ones_counted_once(tmp_path, usable, siblings, cores):
    assert linux("x86_64", usable, system(tmp_path, siblings=siblings)).cores == cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("900000 100000", 4),
        ("1 0", 4),
    ],
)
def test_a_container_may_allow_fewer(tmp_path, quota, cores):
    assert linux("x86_64", {0, 1, 2, 3}, system(tmp_path, quota=quota)).cores == cores


def test_apple_silicon():
    values = {
        "machdep.cpu.brand_string": "Apple M1",
        "hw.physicalcpu": "8",
        "hw.l1dcachesize": "65536",
        "hw.l2cachesize": "4194304",
        "hw.perflevel0.physicalcpu": "4",
        "hw.perflevel0.l1dcachesize": "131072",
        "hw.perflevel0.l2cachesize": "12582912",
    }
    wanted = Machine("Apple M1", "host", "neon", 16, 32, 131072, 12582912, 12582912, 4)
    assert from_facts(mac("arm64", values), {}) == wanted


def test_intel_mac():
    values = {
        "machdep.cpu.brand_string": "Intel(R) Core(TM) i7",
        "machdep.cpu.features": "FPU SSE4.2 FMA AVX1.0",
        "machdep.cpu.leaf7_features": "AVX2 BMI1",
        "hw.physicalcpu": "6",
        "hw.l1dcachesize": "32768",
        "hw.l2cachesize": "262144",
        "hw.l3cachesize": "12582912",
    }
    wanted = Machine("Intel(R) Core(TM) i7", "host", "avx2", 32, 16, 32768, 262144, 12582912, 6)
    assert from_facts(mac("x86_64", values), {}) == wanted


def test_a_mac_is_asked_through_sysctl(monkeypatch):
    text = "machdep.cpu.brand_string: Apple M2: fast\nhw.physicalcpu: 8\n"
    monkeypatch.setattr(facts.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(facts.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(facts.subprocess, "run", lambda *given, **options: SimpleNamespace(stdout=text))
    assert gather() == Facts("Apple M2: fast", "arm64", frozenset(), {}, 8)


@pytest.mark.parametrize("error", [FileNotFoundError(), subprocess.TimeoutExpired("sysctl", 10)])
def test_a_mac_without_sysctl(monkeypatch, error):
    def fail(*given, **options):
        raise error

    monkeypatch.setattr(facts.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(facts.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(facts.subprocess, "run", fail)
    assert gather() == Facts("arm64", "arm64", frozenset(), {}, os.cpu_count())


def test_an_unknown_system(monkeypatch):
    monkeypatch.setattr(facts.platform, "system", lambda: "Plan 9")
    monkeypatch.setattr(facts.platform, "machine", lambda: "")
    machine = from_facts(gather(), {})
    assert (machine.name, machine.isa, machine.cores) == ("unknown CPU", "baseline", os.cpu_count())


def test_facts_of_this_machine_are_plausible():
    machine = from_facts(gather(), {})
    assert machine.cpu == "host"
    assert 1 <= machine.cores <= os.cpu_count()
    assert 8 * KIB <= machine.l1 <= machine.l2 <= machine.l3
    assert host() is host()


INTEL = Facts("Xeon", "x86_64", frozenset(AVX512_FLAGS.split()), {1: 1, 2: 2, 3: 3}, 8)
ARM = Facts("Graviton", "aarch64", frozenset(), {}, 8)


@pytest.mark.parametrize(
    ("given", "isa", "cpu", "vector_bytes", "registers"),
    [
        (INTEL, "avx512", "host", 64, 32),
        (INTEL, "avx2", "haswell", 32, 16),
        (INTEL, "baseline", "x86-64", 16, 16),
        (ARM, "neon", "host", 16, 32),
        (ARM, "baseline", "generic", 16, 16),
    ],
)
def test_a_lower_one_may_be_forced(given, isa, cpu, vector_bytes, registers):
    machine = from_facts(given, {"HAPGOP_ISA": isa})
    assert (machine.isa, machine.cpu, machine.vector_bytes, machine.registers) == (isa, cpu, vector_bytes, registers)
    # What is not the instruction set is still this machine's.
    assert (machine.l1, machine.cores) == (from_facts(given, {}).l1, 8)
    assert machine.name == (given.name if cpu == "host" else f"{given.name}, only its {isa}")


def test_the_variable_may_be_empty():
    assert from_facts(INTEL, {"HAPGOP_ISA": ""}) == from_facts(INTEL, {})


@pytest.mark.parametrize(
    ("given", "forced", "able"),
    [
        (INTEL, "AVX2", "'avx512' or 'avx2' or 'baseline'"),
        (INTEL, "neon", "'avx512' or 'avx2' or 'baseline'"),
        (ARM, "avx2", "'neon' or 'baseline'"),
        (Facts("Old", "amd64", frozenset(AVX2_FLAGS.split()), {}, 1), "avx512", "'avx2' or 'baseline'"),
    ],
)
def test_nonsense_is_refused(given, forced, able):
    with pytest.raises(InputError) as caught:
        from_facts(given, {"HAPGOP_ISA": forced})
    assert str(caught.value) == (
        f"HAPGOP_ISA: got '{forced}', wanted what this machine ({given.name}) can run: {able}, or unset."
    )


def test_host_reads_the_variable(monkeypatch):
    monkeypatch.setenv("HAPGOP_ISA", "baseline")
    assert host.__wrapped__().isa == "baseline"
    monkeypatch.setenv("HAPGOP_ISA", "fast")
    with pytest.raises(InputError, match=r"^HAPGOP_ISA: got 'fast'"):
        host.__wrapped__()


def test_named_machines():
    assert [(m.isa, m.vector_bytes, m.registers) for m in (AVX512, AVX2, NEON)] == [
        ("avx512", 64, 32),
        ("avx2", 32, 16),
        ("neon", 16, 32),
    ]
    assert len({AVX512, AVX2, NEON}) == 3


def test_lanes():
    assert (AVX512.lanes("float32"), AVX2.lanes(np.float64), NEON.lanes(np.dtype("int8"))) == (16, 4, 16)
    with pytest.raises(InputError) as caught:
        AVX2.lanes("float33")
    assert str(caught.value) == "dtype: got 'float33', wanted a NumPy dtype such as 'float32'."


def cfs(folder, quota):
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}", f"{folder}/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/box/job", {"box/job/cpu.max": "max 100000", "box/cpu.max": "300000 100000"}, 3),
        # Within a container: the path is that outside.
        ("0::/outside/job", {"cpu.max": "100000 100000"}, 1),
        ("5:cpuset:/\n4:cpu,cpuacct:/job", cfs("cpu,cpuacct/job", 200000), 2),
        ("4:cpu,cpuacct:/job", cfs("cpu", 400000), 4),
        ("4:cpu:/", cfs("cpu", -1), 8),
        ("nonsense", {}, 8),
    ],
)
def test_the_limit_of_every_control_group_counts(tmp_path, groups, files, cores):
    root = system(tmp_path)
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{n}": f for n, f in files.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert linux("x86_64", range(8), root).cores == cores


@pytest.mark.parametrize(
    ("files", "usable", "cores"),
    [
        ({"sys/devices/cpu_core/cpus": "0-3,8"}, range(12), 5),
        ({"sys/devices/cpu_core/cpus": "0-3"}, range(4, 12), 8),
        ({f"sys/devices/system/cpu/cpu{n}/cpu_capacity": "1024" if n > 3 else "430" for n in range(8)}, range(8), 4),
        ({f"sys/devices/system/cpu/cpu{n}/cpu_capacity": "1024" for n in range(8)}, range(8), 8),
    ],
)
def test_of_cores_of_two_kinds_the_fast_ones_count(tmp_path, files, usable, cores):
    root = system(tmp_path)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert linux("x86_64", usable, root).cores == cores
