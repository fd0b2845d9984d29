"""The footprint's section of docs/benchmarks.md."""

from __future__ import annotations

import msgspec

from eval.serving.footprint import FootprintDocument
from eval.serving.markdown import figure, shown, table


def footprint_section(name: str, raw: bytes) -> str:
    """Render one document. Raises: msgspec.DecodeError: it is not one."""
    document = msgspec.json.decode(raw, type=FootprintDocument)
    machine = document.machine
    whole = [
        ["base install", f"{figure(document.install_mib)} MiB in {document.install_packages} packages"],
        ["weights of the default experts", f"{figure(document.download_mib)} MiB"],
        ["start to ready, s", shown(document.ready_s)],
        ["gateway, router loaded, resident", f"{figure(document.gateway_mib)} MiB"],
    ]
    experts = [
        [e.id, figure(e.weights_mib), figure(e.declared_mib), figure(e.measured_mib), figure(e.load_s),
         figure(e.cold_answer_s), figure(e.hot_answer_s)]
        for e in document.experts
    ]  # fmt: skip
    measured = (
        f"`{' '.join(document.command)}` on {document.date[:10]}: {machine.cpu}, {machine.cores} cores, "
        f"{figure(machine.memory_gib)} GiB, Python {machine.python}, load average {figure(machine.load_1m)} at the "
        f"start. Medians, with the range; from `{name}.json`."
    )
    terms = "An answer is one token. Cold: the weights come from disk, or its cache; hot: the expert is resident."
    header = ["expert", "weights MiB", "booked MiB", "resident MiB", "load s", "cold answer s", "hot answer s"]
    return "\n\n".join(["## Footprint", measured, table(["what", "figure"], whole), terms, table(header, experts)])
