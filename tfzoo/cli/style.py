"""How a page of compared runs looks, on light and on dark ground."""

from __future__ import annotations

from collections.abc import Iterable

LIGHT = ("0b62c4", "b84a00", "1b7f3b", "a6308f", "c1272d", "007a87", "7a6000", "5b4bd6")
DARK = ("6cb2ff", "ff9f5a", "5fcf80", "ee82d8", "ff7b7b", "4fd0dc", "d9b93b", "a99cff")
"""Of runs, on light and on dark ground."""

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --faint: #d5d9de; --soft: #59636e;
  --best: #e2f3e4; LIGHT }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15181c; --ink: #e6e9ec; --faint: #3a4149; --soft: #9aa4ae;
    --best: #1d3a25; DARK }
}
body { margin: 2rem auto; padding: 0 1rem; max-width: 76rem; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem } h3 { font-size: 1rem; margin: 1rem 0 .4rem }
.wide { overflow-x: auto }
table { border-collapse: collapse } th, td { border: 1px solid var(--faint); padding: .25rem .6rem; text-align: left;
  vertical-align: top; white-space: pre-wrap; overflow-wrap: break-word; min-width: 6rem }
td > div { max-height: 16rem; overflow-y: auto }
td.best { background: var(--best); font-weight: 600 } td.best::after { content: " ★" }
.side { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start }
.side > * { flex: 1 1 22rem; margin: 0; min-width: 0 }
img { max-width: 100%; background: #fff } figcaption, .note { color: var(--soft) }
.chart { width: 100%; max-width: 52rem; height: auto; display: block }
.chart .grid { stroke: var(--faint) } .chart .tick { fill: var(--soft); font-size: 12px }
.chart polyline { fill: none; stroke-width: 2; stroke-linejoin: round }
.chart g text { font-weight: 700; font-size: 13px }
"""


def style() -> str:
    def inks(colours: Iterable[str]) -> str:
        return " ".join(f"--run{place}: #{code};" for place, code in enumerate(colours))

    runs = "".join(
        f".run{place} {{ color: var(--run{place}) }} .run{place} polyline {{ stroke: var(--run{place}) }} "
        f".run{place} circle, .run{place} text {{ fill: var(--run{place}) }}\n"
        for place in range(len(LIGHT))
    )
    return _STYLE.replace("LIGHT", inks(LIGHT)).replace("DARK", inks(DARK)) + runs
