"""One run while it is active: progress, rate, shards, errors, stages."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.parts import HALF, THIRD, graph, new, number, variable

RUN = 'namespace="$namespace", run="$run"'


def build() -> dashboard.Dashboard:
    """The dashboard."""
    found = (
        new(
            "lmms-eval-run",
            "lmms-eval / Run",
            "One active run. Its series end with it; status and results stay in the EvaluationRun.",
            "now-1h",
        )
        .with_variable(variable("namespace", "Namespace", "evalrun_run_phase"))
        .with_variable(variable("run", "Run", 'evalrun_run_phase{namespace="$namespace"}'))
    )
    for part in (_overview, _progress, _shards, _accelerators):
        found = part(found)
    return found


def _overview(to: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        to.with_panel(
            number(
                "Phase",
                "What the run does now.",
                (f"evalrun_run_phase{{{RUN}}} == 1", "{{phase}}"),
            )
        )
        .with_panel(
            number(
                "Answered",
                "Requests, of all.",
                (f"evalrun_run_progress_ratio{{{RUN}}}", ""),
                unit="percentunit",
            )
        )
        .with_panel(
            number(
                "Rate",
                "Answers a second over all pods, as they last said.",
                (f"evalrun_run_requests_per_second{{{RUN}}}", ""),
            )
        )
        .with_panel(
            number(
                "Shards at work",
                "Of all shards.",
                (f'evalrun_run_shards{{{RUN}, state="active"}}', "at work"),
                (f"sum(evalrun_run_shards{{{RUN}}})", "all"),
            )
        )
        .with_panel(
            number(
                "Accelerator-hours",
                "Held so far, as last written.",
                (f"evalrun_run_gpu_seconds_total{{{RUN}}} / 3600", ""),
                unit="h",
            )
        )
        .with_panel(
            number(
                "Cost",
                "So far, at the administrator's price.",
                (f"evalrun_run_cost_total{{{RUN}}}", ""),
            )
        )
    )


def _progress(to: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        to.with_row(dashboard.Row("Progress"))
        .with_panel(
            graph(
                "Share that is answered",
                "Answered requests of all, as last written to the status.",
                (f"evalrun_run_progress_ratio{{{RUN}}}", "answered"),
                unit="percentunit",
                width=THIRD,
                most=1,
            )
        )
        .with_panel(
            graph(
                "Answers a second",
                "Over all pods.",
                (f"evalrun_run_requests_per_second{{{RUN}}}", "answers"),
                width=THIRD,
            )
        )
        .with_panel(
            graph(
                "Invalid answers",
                "By class, so far: empty, failed, out of memory.",
                (f"evalrun_run_invalid_answers{{{RUN}}}", "{{error}}"),
                width=THIRD,
                stacked=True,
            )
        )
    )


def _shards(to: dashboard.Dashboard) -> dashboard.Dashboard:
    by_shard = "sum by (shard)"
    return (
        to.with_row(dashboard.Row("Shards"))
        .with_panel(
            graph(
                "States",
                "Of shards: at work, waiting for a pod, done, given up.",
                (f"evalrun_run_shards{{{RUN}}}", "{{state}}"),
                width=THIRD,
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Restarts",
                "Pods that were replaced, and workers that were started anew in theirs.",
                (f"evalrun_run_shard_restarts_total{{{RUN}}}", "pod: {{cause}}"),
                (
                    f"{by_shard} (evalrun_runner_worker_restarts_total{{{RUN}}})",
                    "worker of shard {{shard}}",
                ),
                width=THIRD,
            )
        )
        .with_panel(
            graph(
                "Answers a second by shard",
                "Computed ones, from the pods themselves.",
                (
                    f"{by_shard} (rate(evalrun_runner_requests_total{{{RUN}, "
                    'origin="computed"}[$__rate_interval]))',
                    "shard {{shard}}",
                ),
                width=THIRD,
            )
        )
        .with_panel(
            graph(
                "Requests left by shard",
                "A line that stays level is a shard that stands still.",
                (
                    f"{by_shard} (evalrun_runner_requests_expected{{{RUN}}}) - "
                    f"{by_shard} (evalrun_runner_requests_total{{{RUN}}})",
                    "shard {{shard}}",
                ),
                width=HALF,
            )
        )
        .with_panel(
            graph(
                "Store",
                "Requests to the store that failed in the last five minutes; finished answers wait "
                "in the pod meanwhile.",
                (
                    f"sum by (shard, reason) (increase(evalrun_runner_store_failures_total{{{RUN}}}"
                    "[5m]))",
                    "shard {{shard}}: {{reason}}",
                ),
                width=HALF,
            )
        )
    )


def _accelerators(to: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        to.with_row(dashboard.Row("Where the time goes"))
        .with_panel(
            graph(
                "Stages",
                "Seconds spent by stage, over all shards at work.",
                (f"sum by (stage) (evalrun_runner_stage_seconds{{{RUN}}})", "{{stage}}"),
                unit="s",
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Accelerator-seconds",
                "Held, and of these without an answer, as last written.",
                (f"evalrun_run_gpu_seconds_total{{{RUN}}}", "held"),
                (f"evalrun_run_gpu_idle_seconds_total{{{RUN}}}", "idle"),
                unit="s",
            )
        )
    )
