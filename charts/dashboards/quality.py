"""Scores over time: what each model reached at each benchmark when it was last evaluated."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.parts import WHOLE, graph, new, rows, variable

CHOSEN = 'namespace=~"$namespace", model=~"$model", benchmark=~"$benchmark", metric=~"$metric"'
LEGEND = "{{model}} {{benchmark}} {{metric}}"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    found = new(
        "lmms-eval-quality",
        "lmms-eval / Model quality",
        "The last trusted score of each model at each benchmark. Whether a difference means "
        "anything is for a paired test to say, not for a line.",
        "now-30d",
    )
    for name, label in (
        ("namespace", "Namespace"),
        ("model", "Model"),
        ("benchmark", "Benchmark"),
        ("metric", "Metric"),
    ):
        found = found.with_variable(variable(name, label, "evalrun_score", several=True))
    return (
        found.with_panel(
            graph(
                "Scores",
                "Each step is a run that ended with a trusted score.",
                (f"evalrun_score{{{CHOSEN}}}", LEGEND),
                width=WHOLE,
            )
        )
        .with_panel(
            graph(
                "Spread",
                "The largest score within the time shown less the smallest one.",
                (
                    f"max_over_time(evalrun_score{{{CHOSEN}}}[$__range]) - "
                    f"min_over_time(evalrun_score{{{CHOSEN}}}[$__range])",
                    LEGEND,
                ),
                width=WHOLE,
            )
        )
        .with_panel(
            rows(
                "Last scores",
                "Best first.",
                (f"sort_desc(evalrun_score{{{CHOSEN}}})", ""),
            )
        )
    )
