"""A plan as a person reads it."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

COLUMNS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "exchange": "exchange",
    "activations": "activations",
    "total": "total",
}


def tell(told: dict[str, Any]) -> None:
    """Print what `tfzoo plan --json` says."""
    console = Console(soft_wrap=True, highlight=False)
    console.width = max(console.width, 90)  # of the table: where nobody watches, 80 are supposed
    console.print("\n".join(_network(told)))
    console.print(_memory(told))
    console.print("\n".join([*_run(told), *_notes(told)]))


def _network(told: dict[str, Any]) -> list[str]:
    job, unit = told["job"], told["unit"]
    article = "an" if unit == "image" else "a"
    return [
        f"{told['task']}, {told['parameters']:,} parameters, {told['precision']}",
        f"{large(told['forward_flops'])}FLOPs {article} {unit} forward, "
        f"{large(told['training_flops'])}FLOPs in training",
        f"{told['batch']:,} {unit}s a batch; a step is {_times(job['accumulate'], 'batch', 'batches')} on "
        f"{_times(job['devices'], 'device', 'devices')}, {told['step']:,} {unit}s",
    ]


def _memory(told: dict[str, Any]) -> Table:
    room = told["device_memory"]
    small = all(row["total"] < 1e9 for row in told["memory"])
    size = 1e6 if small else 1e9
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=f"Memory of each device at its peak, in {'MB' if small else 'GB'}",
        title_justify="left",
        title_style="",
    )
    table.add_column("strategy", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    if room:
        table.add_column("fits", justify="right", no_wrap=True)
    for row in told["memory"]:
        name = "  checkpointed" if row["checkpointing"] else row["strategy"]
        cells = [f"{row[key] / size:,.2f}" for key in COLUMNS]
        table.add_row(name, *cells, *([row["fits"]] if room else []))
    return table


def _run(told: dict[str, Any]) -> list[str]:
    job, unit = told["job"], told["unit"]
    lines = []
    if told["per_second"] is None:
        lines.append("speed: say --device or --device-flops")
    else:
        lines.append(
            f"speed: {large(told['per_second']).strip()} {unit}s a second, at {told['utilisation']:.0%} of "
            f"{large(told['device_flops'])}FLOP/s on {_times(job['devices'], 'device', 'devices')}"
        )
    if job["steps"] is None:
        lines.append("run: how long it is cannot be told, set trainer.max_steps")
        return lines
    run = f"run: {job['steps']:,} steps, {large(told['total']).strip()} {unit}s"
    if told["seconds"] is not None:
        run += f", {_duration(told['seconds'])}, {told['device_hours']:,.4g} device-hours"
    if told["validations"]:
        run += f"; {told['validations']:,} validations are not in it"
    return [*lines, run]


def _notes(told: dict[str, Any]) -> list[str]:
    lines = []
    if told["supposed"] is not None:
        said = "; ".join(told["supposed"]) or "nothing beside the config"
        lines.append(f"supposed, for the data was not read: {said}")
    exchange = {"DDP": "buckets of gradients (DDP)", "FSDP": "what is gathered at the time (FSDP)"}
    strategies = {row["strategy"]: None for row in told["memory"]}
    kinds = [exchange[strategy] for strategy in strategies if strategy in exchange]
    if kinds:
        lines.append(f"exchange: {', '.join(kinds)}")
    if told["job"]["averages"]:
        lines.append("weights: twice, for their average is kept beside them (never sharded)")
    return [
        "",
        *lines,
        "activations: all else at that time, of a batch as large as they come; "
        "checkpointed: blocks are computed twice, in a third more time",
        "FLOPs: of matrix products, attention in full and nothing twice (model FLOPs)",
        "not counted: what CUDA, its libraries and the allocator's gaps take, some 1 to 3 GB",
    ]


def large(number: float) -> str:
    """1234567 as "1.23 M"."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {prefix}"
    return f"{number:.3g} "


def _times(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
