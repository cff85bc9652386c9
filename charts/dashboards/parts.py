"""What the dashboards share: the data source, variables, and panels that look alike."""

from __future__ import annotations

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Query = tuple[str, str]
"""PromQL, and the legend of its series."""

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "lmms-eval"
HALF, THIRD, QUARTER, WHOLE = 12, 8, 6, 24
"""Widths; a dashboard is 24 wide."""


def new(uid: str, title: str, description: str, since: str) -> dashboard.Dashboard:
    """An empty dashboard. since: where its time begins, such as now-6h."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(since, "now")
        .refresh("30s")
        .link(
            dashboard.DashboardLink("lmms-eval")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )


def variable(
    name: str, label: str, metric: str, *, of: str | None = None, several: bool = False
) -> dashboard.QueryVariable:
    """A variable with the values of a label. of: the label, where it is not the variable's name."""
    found = (
        dashboard.QueryVariable(name)
        .label(label)
        .query(f"label_values({metric}, {of or name})")
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(several)
        .include_all(several)
    )
    # Of all that there is, and not of a list that may have grown since.
    return found.all_value(".*") if several else found


def _targets(queries: tuple[Query, ...]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + number))
        for number, (expr, legend) in enumerate(queries)
    ]


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def graph(
    title: str,
    text: str,
    *queries: Query,
    unit: str = "short",
    width: int = HALF,
    stacked: bool = False,
    most: float | None = None,
) -> timeseries.Panel:
    """Values over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(width)
        .fill_opacity(30 if stacked else 10)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
    )
    if most is not None:
        panel = panel.max(most)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for target in _targets(queries):
        panel = panel.with_target(target)
    return panel


def number(
    title: str, text: str, *queries: Query, unit: str = "short", width: int = 4
) -> stat.Panel:
    """The value now: a series that has ended is none."""
    panel = (
        stat.Panel()
        .title(title)
        .description(text)
        .reduce_options(_last())
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(width)
    )
    for target in _targets(queries):
        panel = panel.with_target(target.instant())
    return panel


def bars(
    title: str, text: str, *queries: Query, unit: str = "short", width: int = HALF
) -> bargauge.Panel:
    """The last values beside one another."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(text)
        .reduce_options(_last())
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(width)
        .orientation(VizOrientation.HORIZONTAL)
    )
    for target in _targets(queries):
        panel = panel.with_target(target.instant())
    return panel


def rows(title: str, text: str, *queries: Query, unit: str = "short") -> table.Panel:
    """The last values with all their labels."""
    panel = (
        table.Panel()
        .title(title)
        .description(text)
        .show_header(True)
        .datasource(SOURCE)
        .unit(unit)
        .height(9)
        .span(WHOLE)
    )
    for target in _targets(queries):
        panel = panel.with_target(target.instant().format(PromQueryFormat.TABLE))
    return panel


def quantiles(metric: str, by: str = "") -> tuple[Query, ...]:
    """Median, 95th and 99th percentile of a histogram, over the interval of the graph."""
    selector = f"{metric}_bucket{{{by}}}" if by else f"{metric}_bucket"
    return tuple(
        (
            f"histogram_quantile({share}, sum by (le) (rate({selector}[$__rate_interval])))",
            f"p{round(share * 100)}",
        )
        for share in (0.5, 0.95, 0.99)
    )
