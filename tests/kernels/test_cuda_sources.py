"""The CUDA sources compile for every architecture, and their loops are in the machine code as the source says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels import cuda_module, triad
from kernels.issue_rate import FMA_FP64, LOOPS, MMA_FP16, MMA_FP64, MMA_FP64_90, WGMMA_FP16, Loop

from .machine_code import Function, Nvrtc, compiled, disassembled, find, parsed, spills

CAPABILITIES = ("80", "90", "100")
NAMES = {
    "fp16_m16n8k16": "HMMA.16816.F32",
    "fp64_m8n8k4": "DMMA",
    "fp64_m16n8k16": "DMMA.16x8x16",
    "fp16_m64n256k16": "HGMMA.64x256x16.F32",
}
OTHERS = 12  # instructions for the loop itself; wgmma's descriptor is put together anew each time
BUILT = [
    (loop, capability)
    for loop in LOOPS
    for capability in CAPABILITIES
    if loop not in (MMA_FP64_90, WGMMA_FP16) or capability == "90"
]


def source(file: str) -> str:
    return (cuda_module.SOURCES / file).read_text(encoding="ascii")


def kernel(loop: Loop, capability: str, folder: Path, *changes: tuple[str, str], **defines: int) -> Function:
    text = source(loop.file)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return disassembled(compiled(text, loop.file, capability, loop.defines | defines), folder)[loop.function]


def name(loop: Loop) -> str:
    return NAMES.get(loop.instruction, "DFMA" if loop.precision == "fp64" else "FFMA")


@pytest.mark.parametrize("file", [*sorted({loop.file for loop in LOOPS}), triad.FILE])
def test_the_byte_that_cupys_binding_cuts_off_is_put_back(file: str) -> None:
    defines = next((loop.defines for loop in LOOPS if loop.file == file), {"THREADS": triad.THREADS})
    cubin = compiled(source(file), file, "90", defines)
    assert cuda_module.whole(cubin[:-1]) == cubin
    assert cuda_module.whole(cubin) == cubin


def faults(loop: Loop, function: Function) -> list[str]:
    """Return what is wrong with a loop's machine code."""
    found, meant, said = find(function, name(loop)), loop.accumulators * loop.unroll, []
    if found.in_loop != meant:
        said.append(f"{found.in_loop} of {name(loop)} in the loop, not {meant}")
    if found.total != found.in_loop:
        said.append(f"{found.total - found.in_loop} of {name(loop)} outside the loop")
    if found.others_in_loop > OTHERS:
        said.append(f"{found.others_in_loop} other instructions in the loop")
    if function.frame_bytes != 0:
        said.append(f"{function.frame_bytes} bytes of local memory")
    if spills(function):
        said.append(f"{spills(function)} instructions that spill")
    return said


@pytest.mark.parametrize(("loop", "capability"), BUILT, ids=lambda part: getattr(part, "function", part))
def test_the_loop_is_what_the_source_says(loop: Loop, capability: str, tmp_path: Path) -> None:
    assert faults(loop, kernel(loop, capability, tmp_path)) == []


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_triad_reads_and_writes_whole_vectors(capability: str, tmp_path: Path) -> None:
    code = compiled(source(triad.FILE), triad.FILE, capability, {"THREADS": triad.THREADS})
    function = disassembled(code, tmp_path)[triad.FUNCTION]
    counts = [find(function, instruction).total for instruction in ("LDG", "STG", "DFMA")]
    assert counts == [2, 1, 2]
    wide = [i.name for i in function.instructions if i.name.startswith(("LDG", "STG"))]
    assert all(".128" in instruction for instruction in wide)
    assert (spills(function), function.frame_bytes) == (0, 0)


def test_wgmma_is_hopper_s_own() -> None:
    with pytest.raises(ValueError, match=r"NVRTC does not compile issue_wgmma.cu for sm_80: .*"):
        compiled(source(WGMMA_FP16.file), WGMMA_FP16.file, "80", WGMMA_FP16.defines)


def test_every_source_is_compiled_here() -> None:
    files = {path.name for path in cuda_module.SOURCES.iterdir()}
    assert files == {loop.file for loop in LOOPS} | {triad.FILE}


FUSED = 'asm volatile("fma.rn.f64 %0, %1, %2, %0;" : "+d"(sums[i]) : "d"(x), "d"(y[i]))'


@pytest.mark.parametrize(
    "capability", [CAPABILITIES[-1], *(pytest.param(c, marks=pytest.mark.long) for c in CAPABILITIES[:-1])]
)
class TestWhatIsNoticed:
    """Mutations: the same inspection refuses kernels that do not do the work that is counted."""

    def test_a_loop_whose_sums_nobody_needs(self, capability: str, tmp_path: Path) -> None:
        changes = ((FUSED, FUSED.replace(" volatile", "")), ("d[i * threads + thread] = sums[i]", ""))
        assert faults(FMA_FP64, kernel(FMA_FP64, capability, tmp_path, *changes)) == ["0 of DFMA in the loop, not 64"]

    def test_a_loop_that_the_compiler_folds(self, capability: str, tmp_path: Path) -> None:
        function = kernel(FMA_FP64, capability, tmp_path, (FUSED, "sums[i] = fma(x, y[i], x)"))
        assert faults(FMA_FP64, function)[0] == "0 of DFMA in the loop, not 64"

    def test_a_loop_that_runs_fewer_steps(self, capability: str, tmp_path: Path) -> None:
        function = kernel(MMA_FP16, capability, tmp_path, UNROLL=MMA_FP16.unroll // 2)
        assert faults(MMA_FP16, function) == ["16 of HMMA.16816.F32 in the loop, not 32"]

    def test_a_loop_that_is_unrolled_away(self, capability: str, tmp_path: Path) -> None:
        once = ("for (int round = 0; round < rounds; ++round)", "for (int round = 0; round < 1; ++round)")
        assert faults(MMA_FP64, kernel(MMA_FP64, capability, tmp_path, once)) == [
            "0 of DMMA in the loop, not 32",
            "32 of DMMA outside the loop",
        ]

    def test_a_kernel_that_spills(self, capability: str, tmp_path: Path) -> None:
        function = kernel(MMA_FP16, capability, tmp_path, THREADS=1024, ACCUMULATORS=16)
        assert any(fault.endswith("that spill") for fault in faults(MMA_FP16, function))


def test_a_jump_forward_is_no_loop_and_an_endless_one_holds_only_itself() -> None:
    text = """
.text.f:
        /*0000*/              @P0 BRA `(.L_x_1) ;
        /*0010*/                   DFMA R2, R4, R6, R2 ;
.L_x_1:
        /*0020*/                   DFMA R2, R4, R6, R2 ;
.L_x_2:
        /*0030*/                   BRA `(.L_x_2);
.text.g:
.L_x_3:
        /*0000*/                   DFMA R2, R4, R6, R2 ;
        /*0010*/                   STL [R1], R2 ;
        /*0018*/                   NOP ;
        /*0020*/             @!UP0 BRA.U `(.L_x_3) ;
"""
    functions = parsed(text)
    assert find(functions["f"], "DFMA") == (2, 0, 0)
    assert find(functions["g"], "DFMA") == (1, 1, 2)
    assert (spills(functions["f"]), spills(functions["g"])) == (0, 1)


def test_without_the_compiler_ci_fails_and_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nvidia-cuda-nvrtc-cu12"):
        Nvrtc()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="nvidia-cuda-nvdisasm"):
        Nvrtc()
