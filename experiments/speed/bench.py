"""tfzoo beside what one would otherwise take, in one process, on the same work.

    python experiments/speed/bench.py [--only training,decoding,loading,framework,starting] [--device cuda] ...

Writes bench.json and bench.md into --out. README.md says what is measured, and how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # read once, when torch is imported
os.environ["WANDB_MODE"] = "offline"  # nobody wants these runs, and no network in the figures

import decoding
import framework
import loading
import starting
import torch
from contest import ROUND, Contestant, Result, contest, product_rate
from report import markdown
from training import ON_CUDA, WORKS, Work

import tfzoo

PARTS = ("training", "decoding", "loading", "framework", "starting")
SLOW = 0.25
"""A CPU without units for bfloat16 computes its products many times slower than float32's; below this share of their
rate it is not measured, for nobody trains so."""


class Bench:
    """Measures, and keeps what it measured as rows of a table.

    Each row: part, work, precision, compiled, name, seconds (median), rate and its unit, peak in bytes.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.rates: dict[str, float] = {}
        self.rows: list[dict[str, Any]] = []
        self.notes: dict[str, Any] = {}
        for precision in ("32", "bf16"):
            self.rate(precision)
        if self.rates["bf16"] < SLOW * self.rates["32"] and "bf16" in options.precision:
            options.precision = [p for p in options.precision if p != "bf16"] or ["32"]
            self.say(
                f"bfloat16 is left out: this machine computes its products at "
                f"{self.rates['bf16'] / self.rates['32']:.1%} of float32's rate"
            )

    def rate(self, precision: str) -> None:
        """Measure the rate of products again: the best that was ever seen counts."""
        found = product_rate(precision, self.device)
        self.rates[precision] = max(found, self.rates.get(precision, 0.0))

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.notes.setdefault("remarks", []).append(line)

    def add(
        self, part: str, work: str, results: list[Result], count: Any, unit: str, **more: Any
    ) -> None:
        for one in results:
            counted = count[one.name] if isinstance(count, dict) else count
            row = {"part": part, "work": work, "name": one.name, "seconds": one.median}
            row |= {"rate": counted / one.median, "unit": f"{unit}/s", "peak": one.peak}
            self.rows.append(row | {"rounds": one.seconds} | more)
            print(
                f"{work:<36} {one.name:<20} {more.get('how', ''):<16} {row['rate']:>10,.0f} {unit}/s",
                flush=True,
            )
        self.write()

    def write(self) -> str:
        """After every contest, for the next one may fail. Returns the page."""
        found = self.machine() | {"rows": self.rows} | self.notes
        self.options.out.mkdir(parents=True, exist_ok=True)
        for name, text in (("json", json.dumps(found, indent=1) + "\n"), ("md", markdown(found))):
            (self.options.out / f"bench.{name}").write_text(text, encoding="utf-8")
        return text

    def contest(
        self, contestants: Sequence[Contestant], memory: bool = True, warm_up: int = 1
    ) -> list[Result]:
        turn = 0.0 if self.options.small else self.options.turn
        return contest(contestants, self.options.rounds, self.device, memory, warm_up, turn)

    def works(self) -> Iterator[tuple[str, Work]]:
        chosen = WORKS | (ON_CUDA if self.device.type == "cuda" and not self.options.small else {})
        for name, (make, shape) in chosen.items():
            if name in self.options.works:
                yield name, make(shape.small() if self.options.small else shape, self.device)

    def training(self) -> None:
        for name, work in self.works():
            flops = work.flops()
            for precision in self.options.precision:
                for compiled in self.options.compiled:
                    contestants = list(work.contestants(precision, compiled, self.device))
                    warm_up = 3 if compiled else 1
                    results = self.contest(contestants, True, warm_up)
                    self.rate(precision)
                    how = f"{precision}{' compiled' if compiled else ''}"
                    share = {"flops": flops, "precision": precision}
                    self.add("training", name, results, work.count, work.unit, how=how, **share)  # fmt: skip

    def decoding(self) -> None:
        gpt, translator = WORKS["gpt"][1], WORKS["translator"][1]
        if self.options.small:
            gpt, translator = gpt.small(), translator.small()
        for make in (
            lambda: decoding.generation(gpt, 1, 200, self.device),
            lambda: decoding.generation(gpt, 16, 200, self.device),
            lambda: decoding.translation(translator, 32, 1, self.device),
            lambda: decoding.translation(translator, 32, 5, self.device),
        ):
            work = make()
            results = self.contest(work.contestants)
            self.add("decoding", work.name, results, work.count, work.unit, how="32")

    def loading(self) -> None:
        shape = WORKS["translator"][1]
        if self.options.small:
            shape = shape.small()
        precision = self.options.precision[-1]
        epoch = loading.translations(self.options.data, shape, precision, 2, self.device)
        results = self.contest(epoch.contestants, False, 0)
        self.add("loading", epoch.name, results, epoch.counts, "tokens", how=precision)
        self.notes["padding"] = epoch.padding
        text = loading.GenerationData("shakespeare", tokenizer="characters", context=256)
        self.notes["padding_in_language_modelling"] = loading.share_in_language_modelling(text)

    def framework(self) -> None:
        self.notes["framework"] = {}
        steps = {"GPT": self.options.steps // 2, "ViT": self.options.steps}
        with tempfile.TemporaryDirectory() as folder:
            for name, flags in framework.experiments(Path(folder), self.options.small).items():
                found = framework.share(flags, steps[name])
                self.notes["framework"][name] = found
                print(f"framework, {name}: {found['share']:+.2%} of a bare step", flush=True)

    def starting(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            flags = framework.experiments(Path(folder), small=True)["GPT"]
            found = starting.starts([*flags, f"--runs={folder}/runs"], self.options.rounds)
        self.notes["starting"] = [vars(start) for start in found]
        for start in found:
            print(f"{start.name:<36} {start.wall:.2f} s, {start.processor:.2f} s of processor time")

    def machine(self) -> dict[str, Any]:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cpu()
        return {
            "machine": name,
            "threads": torch.get_num_threads(),
            "versions": dict(versions()),
            "commit": commit(),
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "product_rates": self.rates,
        }


def cpu() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "tfzoo", tfzoo.__version__
    for name in ("torch", "lightning", "transformers", "timm", "x-transformers"):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def commit() -> str | None:
    asked = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or None


def profiled(bench: Bench) -> None:
    """Where the time of our training steps goes."""
    from torch.profiler import ProfilerActivity, profile

    cuda = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    for name, work in bench.works():
        for precision in bench.options.precision:
            ours: Contestant = next(work.contestants(precision, False, bench.device))
            ours.work()
            with profile(activities=activities) as seen:
                ours.work()
            by = "self_cuda_time_total" if cuda else "self_cpu_time_total"
            print(f"\n{name}, {precision}")
            print(seen.key_averages().table(sort_by=by, row_limit=12, max_name_column_width=40))


def main() -> None:
    options = parser().parse_args()
    if options.device == "cpu" and not set(options.works) & set(WORKS):
        parser().error(f"{', '.join(options.works)}: only with --device cuda")
    torch.manual_seed(0)
    bench = Bench(options)
    for precision, rate in bench.rates.items():
        print(f"matrix product, {precision}: {rate / 1e9:,.0f} GFLOP/s")
    if options.profile:
        return profiled(bench)
    text = ""
    for part in options.only:
        getattr(bench, part)()
        text = bench.write()
    print(f"\n{text}\n{options.out}/bench.json and bench.md", flush=True)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=listed(PARTS), default=PARTS, help=", ".join(PARTS))
    works = (*WORKS, *ON_CUDA)
    parser.add_argument(
        "--works",
        type=listed(works),
        default=works,
        help=f"whose training is measured: {', '.join(WORKS)}, on CUDA {', '.join(ON_CUDA)}",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", type=listed(("32", "bf16")), default=["32", "bf16"])
    parser.add_argument(
        "--compiled", type=lambda said: [c == "yes" for c in said.split(",")], default=[False],
        help="no, yes, or no,yes: whether training steps are compiled",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="that count, of each contest")
    parser.add_argument(
        "--turn", type=float, default=ROUND, help="seconds a round takes each, at least"
    )
    parser.add_argument("--steps", type=int, default=40, help="beside those of a bare loop")
    parser.add_argument("--data", default="interface", help="parallel text (the embedded one)")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to try the benchmark")
    parser.add_argument("--profile", action="store_true", help="only: where our time goes")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    return parser


def listed(among: tuple[str, ...]) -> Any:
    def parse(said: str) -> list[str]:
        if unknown := set(said.split(",")) - set(among):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(among)}")
        return said.split(",")

    return parse


if __name__ == "__main__":
    main()
