"""Which run, Benchmarks and overrides a command line stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrun_api.errors import Refused
from evalrun_cli.manifests import ManifestFile, gather, overridden

pytestmark = pytest.mark.decisions


def run_text(name: str) -> str:
    return f"""\
apiVersion: lmms-eval.io/v1alpha1
kind: EvaluationRun
metadata: {{name: {name}}}
spec:
  model: {{profile: llava_hf, source: {{volume: {{claimName: models}}}}}}
  benchmarks: [{{name: mme, limit: 500}}, {{name: ai2d}}]
"""


BENCHMARK = """\
apiVersion: lmms-eval.io/v1alpha1
kind: Benchmark
metadata: {name: shapes}
spec: {tasks: [t], files: {t.yaml: "task: t"}}
"""


def file(text: str, name: str = "a.yaml", folder: str = "/a") -> ManifestFile:
    return ManifestFile(name, text, Path(folder))


def test_a_run_and_the_benchmarks_of_other_files_are_pooled_with_their_folders() -> None:
    found = gather([file(run_text("one")), file(BENCHMARK, "b.yaml", "/b")], None)
    assert found.run.metadata.name == "one"
    assert found.folder == Path("/a")
    assert found.benchmark_folders == {"shapes": Path("/b")}


def test_one_of_several_runs_is_picked_by_name() -> None:
    both = file(run_text("one") + "---\n" + run_text("two"))
    assert gather([both], "two").run.metadata.name == "two"


@pytest.mark.parametrize(
    ("files", "wanted", "message"),
    [
        ([file(run_text("one")), file(run_text("two"))], None, "Choose one with --name"),
        ([file(run_text("one"))], "on", "did you mean one?"),
        ([file(run_text("one")), file(run_text("one"))], "one", "only one file for each name"),
        ([file(BENCHMARK)], None, "there is no EvaluationRun"),
        ([file(BENCHMARK), file(BENCHMARK, "b.yaml")], None, "also stands in a.yaml"),
    ],
)
def test_an_ambiguous_choice_is_refused(
    files: list[ManifestFile], wanted: str | None, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        gather(files, wanted)
    assert message in str(refused.value)


def test_the_faults_of_all_files_are_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        gather([file("kind: X", "a.yaml"), file("- 1", "b.yaml")], None)
    assert {fault.where.split(":")[0] for fault in refused.value.faults} == {"a.yaml", "b.yaml"}


def test_a_trial_limits_every_benchmark_and_fresh_reuses_nothing() -> None:
    run = gather([file(run_text("one"))], None).run
    trial = overridden(run, fresh=True, limit=7)
    assert [wanted.limit for wanted in trial.spec.benchmarks] == [7, 7]
    assert trial.spec.cache.reuse_answers == "Never"
    assert overridden(run, fresh=False, limit=None) == run
