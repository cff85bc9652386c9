"""What becomes of each flag of lmms-eval's command line: the field that says it, or why none does.

A test reads the flags from lmms-eval's own parser, so a new release cannot bring one unnoticed.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Flag(NamedTuple):
    """field: of a run's spec, if there is one. note: what differs, or why there is none."""

    field: str | None
    note: str = ""


_POWER = "A calculator for planning, no part of an evaluation."
_TRACKER = "A run's results are files in the store; send them on from there."

FLAGS: Final[dict[str, Flag]] = {
    "--config": Flag(None, "The manifest takes its place."),
    "--model": Flag("model.backend", "Or model.profile, which brings its arguments."),
    "--tasks": Flag("benchmarks[].name, .benchmarkRef", "Exact names, groups and tags; no globs."),
    "--model_args": Flag("model.args", "The weights are model.source; secrets are refused."),
    "--launcher_args": Flag(None, "A judge is asked through evaluation.judge; none is launched."),
    "--num_fewshot": Flag("evaluation.fewShot, benchmarks[].fewShot"),
    "--batch_size": Flag("evaluation.batchSize, benchmarks[].batchSize", "A number; no `auto`."),
    "--max_batch_size": Flag("evaluation.maxBatchSize", "Refused where the backend lacks it."),
    "--device": Flag("parallelism.acceleratorsPerShard", "0 is the CPU."),
    "--output_path": Flag("results"),
    "--limit": Flag("benchmarks[].limit", "A number of documents: a fraction leaks between tasks."),
    "--offset": Flag("benchmarks[].offset"),
    "--use_cache": Flag("cache.reuseAnswers", "The journal, which also survives a kill."),
    "--cache_requests": Flag(None, "Requests are built anew and compared with the lock."),
    "--check_integrity": Flag(None, "It runs lmms-eval's own test suite."),
    "--write_out": Flag(None, "Deprecated in lmms-eval; samples hold every prompt."),
    "--log_samples": Flag("evaluation.logSamples"),
    "--wandb_log_samples": Flag(None, _TRACKER),
    "--swanlab_log_samples": Flag(None, _TRACKER),
    "--log_samples_suffix": Flag(None, "Results of a run have fixed names in a folder of its own."),
    "--system_instruction": Flag("evaluation.systemInstruction"),
    "--apply_chat_template": Flag(
        "evaluation.applyChatTemplate",
        "None of lmms-eval's backends has the method; refused but for one of your own that has it "
        "as a static or class method.",
    ),
    "--fewshot_as_multiturn": Flag(
        "evaluation.fewShotAsMultiturn", "As in lmms-eval, only with applyChatTemplate."
    ),
    "--show_config": Flag(None, "evalrun plan shows it."),
    "--include_path": Flag("benchmarks[].benchmarkRef", "A Benchmark holds the files."),
    "--gen_kwargs": Flag("generation, benchmarks[].generation", "Lists have a form, too."),
    "--reasoning_tags": Flag("evaluation.reasoningTags", "An empty list is `none`."),
    "--verbosity": Flag(None, "The runner's log is JSON lines with levels."),
    "--wandb_args": Flag(None, _TRACKER),
    "--swanlab_args": Flag(None, _TRACKER),
    "--timezone": Flag(None, "Times are UTC."),
    "--hf_hub_log_args": Flag(None, _TRACKER),
    "--predict_only": Flag("evaluation.predictOnly", "The run has no score then."),
    "--seed": Flag("evaluation.seed", "Four fields."),
    "--trust_remote_code": Flag("security.trustRemoteCode", "The policy has to allow it, too."),
    "--process_with_media": Flag("evaluation.processWithMedia"),
    "--process-docs-parallel": Flag(None, "Always 1: scorers that draw stay repeatable."),
    "--agentic_trace_mode": Flag("evaluation.agenticTraceMode", "It moves no answer."),
    "--force_simple": Flag("evaluation.forceSimple"),
    "--tui": Flag(None, "The dashboard and evalrun take its place."),
    "--repeats": Flag("evaluation.repeats, benchmarks[].repeats"),
    "--baseline": Flag(None, "Runs are compared once they are finished, from their samples."),
    "--max_tokens": Flag(
        "evaluation.maxTokens", "Counted anew in each settings group and after a restart."
    ),
    "--power-analysis": Flag(None, _POWER),
    "--effect-size": Flag(None, _POWER),
    "--alpha": Flag(None, _POWER),
    "--power": Flag(None, _POWER),
    "--correlation": Flag(None, _POWER),
    "--std-a": Flag(None, _POWER),
    "--std-b": Flag(None, _POWER),
}
"""By the flag's long form; of several, the one that lmms-eval documents."""
