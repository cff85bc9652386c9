"""All runs together: throughput, queues, failures, accelerators and their price, the operator."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.parts import HALF, QUARTER, THIRD, bars, graph, new, number, quantiles, rows


def build() -> dashboard.Dashboard:
    """The dashboard."""
    found = new(
        "lmms-eval-fleet",
        "lmms-eval / Fleet",
        "All evaluation runs of the cluster, and the operator that looks after them.",
        "now-6h",
    )
    for part in (_now, _throughput, _queues, _accelerators, _operator):
        found = part(found)
    return found


def _now(to: dashboard.Dashboard) -> dashboard.Dashboard:
    ended = "sum(increase(evalrun_runs_finished_total[24h]))"
    failed = 'sum(increase(evalrun_runs_finished_total{result="failed"}[24h]))'
    return (
        to.with_panel(
            number(
                "Active runs",
                "Runs that have not ended.",
                ('sum(evalrun_runs{phase!="Finished"})', ""),
            )
        )
        .with_panel(
            number(
                "Waiting runs",
                "Of these, the ones that wait for a cap or for Kueue's quota.",
                ('sum(evalrun_runs{phase="Queued"})', ""),
            )
        )
        .with_panel(
            number(
                "Stalled",
                "Runs that wait for what only a person can mend; see the list below.",
                ("count(evalrun_run_stalled == 1) or vector(0)", ""),
            )
        )
        .with_panel(number("Ended in 24 h", "Runs that ended.", (ended, "")))
        .with_panel(
            number(
                "Failed in 24 h",
                "Share of them that failed.",
                (f"{failed} / ({ended} > 0) or vector(0)", ""),
                unit="percentunit",
            )
        )
        .with_panel(
            number(
                "Accelerators",
                "Held by pods of active runs, on the average of the last ten minutes.",
                ("sum(rate(evalrun_run_gpu_seconds_total[10m]))", ""),
            )
        )
    )


def _throughput(to: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        to.with_row(dashboard.Row("Throughput and failures"))
        .with_panel(
            graph(
                "Answers a second",
                "Over all pods of active runs, as they last said.",
                ("sum by (namespace) (evalrun_run_requests_per_second)", "{{namespace}}"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Runs by phase",
                "Runs that have not ended.",
                ('evalrun_runs{phase!="Finished"}', "{{phase}}"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Runs that ended, an hour",
                "By result.",
                (
                    "sum by (result) (rate(evalrun_runs_finished_total[$__rate_interval])) * 3600",
                    "{{result}}",
                ),
                width=THIRD,
                stacked=True,
            )
        )
        .with_panel(
            bars(
                "Failures by reason",
                "Runs that failed within the time shown. Troubleshooting explains each reason.",
                (
                    "topk(10, sum by (reason) "
                    '(increase(evalrun_runs_finished_total{result="failed"}[$__range])) > 0)',
                    "{{reason}}",
                ),
                width=THIRD,
            )
        )
        .with_panel(
            graph(
                "Invalid answers by class",
                "Of runs that ended within the last hour: empty, failed, out of memory.",
                ("sum by (error) (increase(evalrun_invalid_answers_total[1h]))", "{{error}}"),
                width=THIRD,
                stacked=True,
            )
        )
        .with_panel(
            rows(
                "Stalled runs",
                "What waits for a person, and the reason: kubectl describe evr NAME has the words.",
                ("max by (namespace, run, reason) (evalrun_run_stalled)", ""),
            )
        )
    )


def _queues(to: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        to.with_row(dashboard.Row("Waiting"))
        .with_panel(
            graph(
                "Wait in the operator's line",
                "From being applied to the first Job: caps of the administrator, and no more than "
                "moments without them.",
                *quantiles("evalrun_run_queue_wait_seconds", 'queue="operator"'),
                unit="s",
                width=THIRD,
            )
        )
        .with_panel(
            graph(
                "Waits in queues",
                "Waits that ended in the last hour, in the operator's line and in Kueue's.",
                (
                    "sum by (queue) (increase(evalrun_run_queue_wait_seconds_count[1h]))",
                    "{{queue}}",
                ),
                width=THIRD,
            )
        )
        .with_panel(
            graph(
                "Start-up",
                "From being applied to the first answer: queue, node, image, weights.",
                *quantiles("evalrun_run_startup_seconds"),
                unit="s",
                width=THIRD,
            )
        )
        .with_panel(
            graph(
                "Duration of runs",
                "From the first pod to the end.",
                *quantiles("evalrun_run_duration_seconds"),
                unit="s",
            )
        )
        .with_panel(
            graph(
                "Line and queue of the operator",
                "Runs that wait for a cap, and runs that are due and wait for a worker.",
                ("max(evalrun_operator_runs_in_line)", "in line for a cap"),
                ("max(evalrun_operator_queue_depth)", "due"),
            )
        )
    )


def _accelerators(to: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        to.with_row(dashboard.Row("Accelerators"))
        .with_panel(
            graph(
                "Accelerators held",
                "By pods of active runs; as often as statuses are written.",
                (
                    "sum by (namespace) (rate(evalrun_run_gpu_seconds_total[5m]))",
                    "{{namespace}}",
                ),
                width=QUARTER,
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Idle share of active runs",
                "Accelerator-seconds without an answer, of all: pulling, importing, loading.",
                (
                    "sum by (namespace) (evalrun_run_gpu_idle_seconds_total) / "
                    "(sum by (namespace) (evalrun_run_gpu_seconds_total) > 0)",
                    "{{namespace}}",
                ),
                unit="percentunit",
                width=QUARTER,
                most=1,
            )
        )
        .with_panel(
            graph(
                "Accelerator-hours of ended runs",
                "Within the last 24 hours: all, and without an answer.",
                ("sum(increase(evalrun_gpu_seconds_total[24h])) / 3600", "held"),
                ("sum(increase(evalrun_gpu_idle_seconds_total[24h])) / 3600", "idle"),
                unit="h",
                width=QUARTER,
            )
        )
        .with_panel(
            graph(
                "Cost",
                "At the administrator's price (pricePerAcceleratorHour): of runs that ended in the "
                "last 24 hours, and of active ones so far.",
                ("sum(increase(evalrun_cost_total[24h]))", "ended"),
                ("sum(evalrun_run_cost_total)", "active"),
                width=QUARTER,
            )
        )
    )


def _operator(to: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        to.with_row(dashboard.Row("Operator"))
        .with_panel(
            graph(
                "Requests to the API server",
                "Each second, by verb; watches apart.",
                (
                    "sum by (verb) (rate(evalrun_operator_api_requests_total[$__rate_interval]))",
                    "{{verb}}",
                ),
                unit="reqps",
                width=QUARTER,
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Time of these requests",
                "Until the answer was read.",
                *quantiles("evalrun_operator_api_request_duration_seconds"),
                unit="s",
                width=QUARTER,
            )
        )
        .with_panel(
            graph(
                "Time of one look at one run",
                "Its requests included.",
                *quantiles("evalrun_operator_reconcile_duration_seconds"),
                unit="s",
                width=QUARTER,
            )
        )
        .with_panel(
            graph(
                "Memory",
                "Resident, of each replica.",
                (
                    "process_resident_memory_bytes * on (instance) group_left () "
                    "(evalrun_operator_leader * 0 + 1)",
                    "{{instance}}",
                ),
                unit="bytes",
                width=QUARTER,
            )
        )
        .with_panel(
            graph(
                "Errors",
                "Looks at a run that failed and are repeated, readings of progress that failed, "
                "watches that began anew: each second.",
                (
                    "sum by (kind) (rate(evalrun_operator_reconcile_errors_total"
                    "[$__rate_interval]))",
                    "look: {{kind}}",
                ),
                (
                    "sum by (reason) (rate(evalrun_operator_scrape_failures_total"
                    "[$__rate_interval]))",
                    "progress: {{reason}}",
                ),
                (
                    "sum(rate(evalrun_operator_watch_restarts_total[$__rate_interval]))",
                    "watches",
                ),
                width=HALF,
            )
        )
        .with_panel(
            graph(
                "Leader",
                "1 for the replica that leads; the others wait.",
                ("evalrun_operator_leader", "{{instance}}"),
                width=HALF,
                most=1,
            )
        )
    )
