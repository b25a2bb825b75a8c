"""The benchmark's findings as a page of Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from contest import OURS


def markdown(found: dict[str, Any]) -> str:
    return "\n".join(_page(found))


def _page(found: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    yield f"# tfzoo beside others: {found['machine']}"
    yield ""
    yield f"{found['threads']} threads; {versions}; commit {found['commit']}; {found['measured']}."
    rates = (f"{name} {rate / 1e9:,.0f}" for name, rate in found["product_rates"].items())
    yield f"Matrix products, GFLOP/s: {', '.join(rates)}."
    yield from (f"{line}." for line in found.get("remarks", []))
    if found["rows"]:
        yield from _contests(found["rows"], found["product_rates"])
    yield from _padding(found)
    yield from _framework(found.get("framework", {}))
    yield from _starting(found.get("starting", []))


def _contests(rows: list[dict[str, Any]], rates: dict[str, float]) -> Iterator[str]:
    yield ""
    yield "Ratio: of tfzoo's rate to the best other's, the median of the rounds; memory: of its peak to the least"
    yield "other's. Rates are of the median round, spread is from the slowest to the fastest. Share: achieved FLOP/s of"
    yield "the products' rate, the best that was seen."
    yield "Compiled, each network is one program with its loss, as `CompileLoss` makes it; blocks: each block, as"
    yield "`CompileBlocks` does."
    yield ""
    yield "| work | precision | who | rate | spread | share | peak MB | ratio | memory |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|"
    for (work, how), some in groupby(rows, key=lambda row: (row["work"], row.get("how", ""))):
        contest = list(some)
        ratio, memory = ratios(contest)
        for row in contest:
            share = peak = ""
            if "flops" in row:
                share = f"{row['flops'] / row['seconds'] / rates[row['precision']]:.0%}"
            if row["peak"] is not None:
                peak = f"{row['peak'] / 1e6:,.0f}"
            ours = row["name"] == OURS
            spread = f"{(max(row['rounds']) - min(row['rounds'])) / row['seconds']:.0%}"
            shown = (f"**{ratio:.2f}**", f"{memory:.2f}" if memory else "") if ours else ("", "")
            rate = f"{row['rate']:,.0f} {row['unit']}"
            yield _row(work, how, row["name"], rate, spread, share, peak, *shown)


def ratios(contest: list[dict[str, Any]]) -> tuple[float, float | None]:
    """Our rate over the best other's, as the median over rounds; and our peak over the least other's.

    Round by round, for what slows a machine down for a while slows both.
    """
    ours = next(row for row in contest if row["name"] == OURS)
    others = [row for row in contest if not row["name"].startswith(OURS)]
    best = max(others, key=lambda row: row["rate"])
    more = (ours["rate"] * ours["seconds"]) / (best["rate"] * best["seconds"])  # work a round
    rounds = zip(ours["rounds"], best["rounds"], strict=True)
    ratio = statistics.median(more * theirs / own for own, theirs in rounds)
    memory = None
    if ours["peak"] is not None:
        memory = ours["peak"] / min(row["peak"] for row in others)
    return ratio, memory


def _padding(found: dict[str, Any]) -> Iterator[str]:
    if "padding" in found:
        yield ""
        shares = ", ".join(f"{name} {share:.1%}" for name, share in found["padding"].items())
        yield f"Padding among the tokens computed, translation: {shares}; language modelling: "
        yield f"{found['padding_in_language_modelling']:.1%}."


def _framework(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    if found:
        yield ""
        yield "| `tfzoo fit` | steps | ms a step | bare loop, ms | more | standard error |"
        yield "|---|--:|--:|--:|--:|--:|"
    for name, one in found.items():
        ms = (f"{one[key]:.1f}" for key in ("tfzoo_ms", "bare_ms"))
        yield _row(name, one["steps"], *ms, f"{one['share']:+.2%}", f"{one['error']:.2%}")


def _starting(found: list[dict[str, Any]]) -> Iterator[str]:
    if found:
        yield ""
        yield "| start | seconds | of processor time |"
        yield "|---|--:|--:|"
    for one in found:
        yield _row(one["name"], f"{one['wall']:.2f}", f"{one['processor']:.2f}")


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
