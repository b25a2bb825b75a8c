"""`tfzoo workspace`: a saved view on a W&B server, in which runs are compared."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tfzoo.cli.apply import Parser
from tfzoo.tracking.drawn import kind_and_step
from tfzoo.tracking.readings import Figures, lower_is_better
from tfzoo.tracking.sync import check_server
from tfzoo.tracking.sync_log import STEP
from tfzoo.tracking.table import scan

TASKS = ("val/loss", "val/accuracy", "val/f1", "val/bleu", "val/chrf", "val/bits_per_character")
PICTURES = ("attention", "alignment")
"""What the four tasks log, where there are no runs to look at."""


class Logged(NamedTuple):
    """The metrics and pictures that runs log."""

    metrics: list[str]
    pictures: list[str]


def workspace(arguments: list[str]) -> None:
    """`tfzoo workspace`: saves the view, and prints its address."""
    parser = Parser(
        prog="tfzoo workspace",
        description="Save a view on the W&B server to compare runs in: curves over training steps, the runs in a table "
        "by experiment with their best values, samples and pictures, and what differs in their configs.",
        allow_abbrev=False,
    )
    parser.add_argument("--project", default="tfzoo", help="W&B's project (tfzoo)")
    parser.add_argument("--entity", help="the user or team whose project it is (you)")
    parser.add_argument(
        "--experiment",
        "--group",
        action="append",
        default=[],
        metavar="NAME",
        help="only its runs; may be said several times",
    )
    parser.add_argument("--name", help="what the view is called")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="runs that log what is to be shown (runs)"
    )
    options = parser.parse_args(arguments)
    if find_spec("wandb_workspaces") is None:
        raise ValueError(
            'saved views need the package wandb-workspaces: pip install "tfzoo[workspace]"'
        )
    check_server()
    logged = logged_by(options.runs, options.experiment)
    name = options.name or f"tfzoo: {', '.join(options.experiment) or 'all experiments'}"
    print(_saved(name, options.entity, options.project, options.experiment, logged))


def logged_by(folder: Path, experiments: Sequence[str]) -> Logged:
    """By the runs under a folder; by the four tasks, where there are none."""
    runs = scan(folder) if folder.is_dir() else []
    runs = [run for run in runs if not experiments or run.experiment in experiments]
    metrics = {name: None for run in runs for name in Figures.read(run.metrics_file).best}
    files = (file for run in runs for file in sorted(run.figures.glob("*-step*.png")))
    pictures = {kind_and_step(file)[0]: None for file in files}
    return Logged(list(metrics or TASKS), list(pictures or PICTURES))


def _saved(
    name: str, entity: str | None, project: str, experiments: Sequence[str], logged: Logged
) -> str:
    """The address of the view."""
    import wandb
    from wandb.errors import CommError, UsageError

    try:
        whose = entity or wandb.Api().default_entity
        if not whose:
            raise ValueError(
                "W&B does not say whose project it is: name the user or team with --entity"
            )
        view = _view(name, whose, project, experiments, logged)
        wandb.termlog, said = (lambda *_, **__: None), wandb.termlog  # the address is printed by us
        try:
            return view.save().url
        finally:
            wandb.termlog = said
    except (CommError, UsageError) as error:
        raise ValueError(f"W&B did not save the view: {error}") from error


def _view(name: str, entity: str, project: str, experiments: Sequence[str], logged: Logged) -> Any:
    from wandb_workspaces import expr
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    group = expr.Metric("Group")
    measured = [wr.LinePlot(title=metric, x=STEP, y=[metric]) for metric in logged.metrics]
    best = [f"{m}.{'min' if lower_is_better(m) else 'max'}" for m in logged.metrics]
    samples = wr.WeavePanelSummaryTable(table_name="samples")
    media = [wr.MediaBrowser(title=key, media_keys=[key]) for key in logged.pictures]
    loss = wr.LinePlot(title="train/loss", x=STEP, y=["train/loss"])
    sections = [
        ws.Section(name="Curves", panels=[loss, *measured], is_open=True),
        ws.Section(name="Best values", panels=[wr.BarPlot(title=m, metrics=[m]) for m in best]),
        ws.Section(name="Samples and pictures", panels=[samples, *media], is_open=True),
        ws.Section(name="What differs", panels=[wr.RunComparer(diff_only=True)]),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP),
        runset_settings=ws.RunsetSettings(
            filters=[group.isin(list(experiments))] if experiments else [],
            groupby=[group],
            pinned_columns=[f"summary:{value}" for value in best],
        ),
    )
