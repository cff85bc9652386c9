"""Evaluate the trained model on a part of easy-VQA from Python; make_data.py writes the data."""

from pathlib import Path

from evalrun_runner import LMMSEvalRunner

HERE = Path(__file__).parent

runner = LMMSEvalRunner(
    str(HERE / "models" / "full"),
    [str(HERE / "benchmark.yaml")],
    {
        "gpu_device_id": "cpu",
        "limit": 200,
        "allow_code_execution": True,  # the benchmark brings its own easy_vqa_utils.py
    },
)
process_id = runner.start()
for line in runner.stream_logs():
    if '"message": "scored"' in line:
        print("scored")
print("exit code", runner.wait())
for benchmark, metrics in runner.parse_metrics(runner.stdout).items():
    for metric, value in metrics.items():
        print(benchmark, metric, value)
