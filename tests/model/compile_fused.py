"""Compiles the fused kernels for a card that need not be here, and prints facts of their code as JSON, by kernel.

A program of its own: a process that imported Triton to interpret kernels cannot compile them.
"""

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from snag_dist.model import modulus_triton

POINTERS = {
    "_forward": ("query_real", "query_imaginary", "candidate_real", "candidate_imaginary", "distances"),
    "_directions": ("rows", "others", "weights", "partial"),
}
TILES = {"_forward": {"QUERIES": 32, "CANDIDATES": 32}, "_directions": {"ROWS": 32, "COORDINATES": 64}}


def compile_kernel(name: str, dtype: str, sizes_of_one: bool) -> dict[str, Any]:
    """Compile for compute capability 8.0. Triton compiles a size of one in, as a constant."""
    kernel = getattr(modulus_triton, name)
    # The last pointer is what is written, in float32.
    pointers = dict.fromkeys(POINTERS[name], f"*{dtype}") | {POINTERS[name][-1]: "*fp32"}
    sizes = [argument for argument in kernel.arg_names if argument not in pointers | TILES[name]]
    constants = TILES[name] | (dict.fromkeys(sizes, 1) if sizes_of_one else {})
    kinds = dict.fromkeys(sizes, "constexpr" if sizes_of_one else "i32") | dict.fromkeys(TILES[name], "constexpr")
    source = ASTSource(fn=kernel, signature=pointers | kinds, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32))
    code = compiled.asm["ptx"]
    return {"roots": code.count("sqrt.approx"), "spills": ".local" in code, "shared": compiled.metadata.shared}


if __name__ == "__main__":
    found = {
        f"{name} {dtype} {ones}": compile_kernel(name, dtype, ones)
        for name in POINTERS
        for dtype in ("fp32", "bf16")
        for ones in (False, True)
    }
    sys.stdout.write(json.dumps(found))
