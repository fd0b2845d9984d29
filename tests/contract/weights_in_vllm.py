"""Runs inside vLLM's environment, without an engine: weights that are packed, put to sleep and woken, bit by bit.

Prints one JSON line per check; test_vllm_weights.py reads them. A layer is made as vLLM makes it.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import torch
from coe_vllm import capture
from coe_vllm.cpu import CpuWeights
from coe_vllm.primitives import primitives_of
from coe_vllm.tier import Refused
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.platforms import current_platform

POOL_BYTES = 64 * 1024**2


def linear(n: int, k: int, dtype: torch.dtype, *, kept: bool = False) -> torch.nn.Linear:
    layer = torch.nn.Linear(k, n, dtype=dtype)
    dispatch_cpu_unquantized_gemm(layer, remove_weight=not kept)
    return layer


def output(model: torch.nn.Module, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(7)
    layers = [m for m in model.modules() if hasattr(m, "cpu_linear")]
    return [m.cpu_linear(torch.randn(5, m.in_features, dtype=dtype), m.weight, m.bias).clone() for m in layers]


def check(name: str, *, holds: bool) -> None:
    sys.stdout.write(json.dumps({"check": name, "holds": bool(holds)}) + "\n")


def exactness() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for n, k in ((7, 5), (192, 576), (513, 300)):
            layer = torch.nn.Linear(k, n, dtype=dtype)
            wanted = layer.weight.data.clone()
            dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
            for primitive in primitives_of(layer):
                steps = primitive.matrix()
                try:
                    while True:
                        next(steps)
                except StopIteration as done:
                    check(f"exact {dtype} {n}x{k}", holds=torch.equal(done.value, wanted))


def whole_circle(dtype: torch.dtype, *, released: bool) -> None:
    name = f"{dtype} {'identity' if released else 'captured'}"
    big, tied = linear(512, 384, dtype), linear(640, 384, dtype, kept=True)
    model = torch.nn.ModuleDict({"big": big, "norm": torch.nn.LayerNorm(384, dtype=dtype), "tied": tied})
    pool = torch.ones(POOL_BYTES // 4)
    worker = SimpleNamespace(model_runner=SimpleNamespace(get_model=lambda: model, kv_caches=[pool]))
    tier = CpuWeights(worker)
    before, norm = output(model, dtype), model["norm"].weight.detach().clone()
    if released:
        tier.release()
    while tier.pack()["packing"]:
        pass
    report = tier.report()
    check(f"{name}: something is packed", holds=report["packed_bytes"] > (512 + 640) * 384 * dtype.itemsize)
    check(f"{name}: an embedding is packed once", holds=report["packed_bytes"] < (512 + 700) * 384 * dtype.itemsize)
    awake = tier.report()["own_bytes"]
    tier.sleep()
    check(f"{name}: the pool is given back", holds=awake - tier.sleep()["own_bytes"] > POOL_BYTES * 0.9)
    inner = tied.weight.flatten()[4096:-4096]  # the first and the last page may be shared with others
    check(f"{name}: tensors are given back", holds=not inner.any().item())
    try:
        tier.release()
        check(f"{name}: the only copy is kept", holds=False)
    except Refused:
        check(f"{name}: the only copy is kept", holds=True)
    for _ in range(2):
        tier.wake()
        after = output(model, dtype)
        check(f"{name}: the same", holds=all(torch.equal(a, b) for a, b in zip(before, after, strict=True)))
        check(f"{name}: norms too", holds=torch.equal(norm, model["norm"].weight))
        check(f"{name}: the pool is empty", holds=not pool[4096:-4096].any().item())
        tier.sleep()
    tier.wake()
    check(f"{name}: released", holds=tier.release()["packed_bytes"] == 0)
    try:
        tier.sleep()
        check(f"{name}: no sleep without a copy", holds=False)
    except Refused:
        check(f"{name}: no sleep without a copy", holds=True)


def not_finite() -> None:
    layer = torch.nn.Linear(8, 8)
    layer.weight.data[3, 3] = float("inf")
    dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    worker = SimpleNamespace(model_runner=SimpleNamespace(get_model=lambda: layer, kv_caches=[]))
    tier = CpuWeights(worker)
    tier.release()
    try:
        while tier.pack()["packing"]:
            pass
        check("weights that are not finite are refused", holds=False)
    except Refused:
        check("weights that are not finite are refused", holds=True)


if __name__ == "__main__":
    current_platform.import_kernels()
    with torch.inference_mode():
        exactness()
        for kind in (torch.float32, torch.bfloat16):
            capture.begin()
            whole_circle(kind, released=False)
            whole_circle(kind, released=True)
        not_finite()
