"""Small local data for lmms-eval's own tasks, one or more for every request type.

Each task has the shape and the functions of the built-in one of its name, and made-up documents.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import datasets
import yaml
from PIL import Image

GREEDY = {"max_new_tokens": 16, "temperature": 0, "do_sample": False}
COLOURS = ("red", "blue", "green", "yellow")
PLAIN = {"pre_prompt": "", "post_prompt": "\nAnswer the question using a single word or phrase."}

TASKS: dict[str, dict[str, Any]] = {
    "mme": {
        "doc_to_visual": "mme_doc_to_visual",
        "doc_to_text": "mme_doc_to_text",
        "doc_to_target": "answer",
        "process_results": "mme_process_results",
        "metric_list": [
            {"metric": "mme_perception_score", "aggregation": "mme_aggregate_results"},
            {"metric": "mme_cognition_score", "aggregation": "mme_aggregate_results"},
        ],
        "lmms_eval_specific_kwargs": {"default": PLAIN},
    },
    "pope": {
        "doc_to_visual": "pope_doc_to_visual",
        "doc_to_text": "pope_doc_to_text",
        "doc_to_target": "answer",
        "process_results": "pope_process_results",
        "metric_list": [
            {"metric": f"pope_{name}", "aggregation": f"pope_aggregate_{name}"}
            for name in ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
        ],
        "lmms_eval_specific_kwargs": {"default": PLAIN},
    },
    "ai2d": {
        "doc_to_visual": "ai2d_doc_to_visual",
        "doc_to_text": "ai2d_doc_to_text",
        "doc_to_target": "ai2d_doc_to_target",
        "filter_list": [
            {
                "name": "flexible-extract",
                "filter": [
                    {
                        "function": "!MultiChoiceRegexFilter",
                        "group_select": 0,
                        "ignore_case": True,
                        "ignore_punctuation": True,
                        "regex_pattern": "([A-Z])\\.",
                    }
                ],
            }
        ],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "ignore_case": True,
                "ignore_punctuation": True,
            }
        ],
        "lmms_eval_specific_kwargs": {"default": {"prompt_format": "mcq", **PLAIN}},
        "model_specific_target_kwargs": {"default": "mcq"},
    },
    "chartqa": {
        "doc_to_visual": "chartqa_doc_to_visual",
        "doc_to_text": "chartqa_doc_to_text",
        "doc_to_target": "answer",
        "process_results": "chartqa_process_results",
        "generation_kwargs": {**GREEDY, "until": ["\n\n"]},
        "metric_list": [
            {"metric": f"relaxed_{name}", "aggregation": "mean"}
            for name in ("overall", "human_split", "augmented_split")
        ],
        "lmms_eval_specific_kwargs": {"default": PLAIN},
    },
    "scienceqa_img": {
        "doc_to_visual": "sqa_doc_to_visual",
        "doc_to_text": "sqa_doc_to_text",
        "doc_to_target": "sqa_doc_to_target",
        "process_results": "sqa_process_results",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
        "lmms_eval_specific_kwargs": {"default": {"format": "default", **PLAIN}},
    },
    "mmmu_val": {
        "doc_to_visual": "mmmu_doc_to_visual",
        "doc_to_text": "mmmu_doc_to_text",
        "doc_to_messages": "mmmu_doc_to_messages",
        "doc_to_target": "answer",
        "process_results": "mmmu_process_results",
        "metric_list": [{"metric": "mmmu_acc", "aggregation": "mmmu_aggregate_results"}],
        "lmms_eval_specific_kwargs": {
            "default": {
                "prompt_type": "format",
                "multiple_choice_prompt": "Answer with the option's letter.",
                "open_ended_prompt": "Answer with a single word.",
            }
        },
    },
    "arc_easy": {
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{choices.label.index(answerKey)}}",
        "doc_to_choice": "{{choices.text}}",
        "metric_list": [
            {"metric": "acc", "aggregation": "mean"},
            {"metric": "acc_norm", "aggregation": "mean"},
        ],
    },
    "mmlu": {
        "output_type": "multiple_choice",
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "default"},  # draws anew for each document
        "num_fewshot": 2,
        "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\n"
        "C. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean"}],
    },
    "ovo_forward": {
        "output_type": "generate_until_multi_round",
        "doc_to_visual": "ovo_doc_to_visual",
        "doc_to_text": "ovo_forward_doc_to_text",
        "doc_to_target": "answer",
        "process_results": "ovo_forward_process_results",
        "metric_list": [{"metric": "forward_acc", "aggregation": "ovo_forward_acc"}],
        "lmms_eval_specific_kwargs": {"default": {"data_dir": "${DATA}/ovo"}},
    },
    "vending_bench2": {
        "output_type": "generate_until_agentic",
        "doc_to_visual": "vending_doc_to_visual",
        "doc_to_text": "vending_doc_to_text",
        "doc_to_target": "vending_doc_to_target",
        "process_results": "vending_process_results",
        "generation_kwargs": {**GREEDY, "max_agentic_steps": 6},
        "metric_list": [
            {"metric": f"vending_{name}", "aggregation": f"vending_aggregate_{name}"}
            for name in ("success", "final_balance", "days_active", "trace_quality")
        ],
        "lmms_eval_specific_kwargs": {"default": {"pre_prompt": "", "post_prompt": ""}},
    },
    "unig2u_scene_visual_cot": {
        "output_type": "generate_visual_cot",
        "process_docs": "illusionbench_arshia_process_docs",
        "doc_to_visual": "illusionbench_arshia_doc_to_visual",
        "doc_to_text": "illusionbench_arshia_doc_to_text_visual_cot_icon_scene",
        "doc_to_target": "illusionbench_arshia_doc_to_target",
        "process_results": "scene_in_drawing",
        "generation_kwargs": {**GREEDY, "visual_cot": True},
        "metric_list": [
            {"metric": "scene_recall", "aggregation": "illusionbench_arshia_aggregate"},
            {"metric": "redness", "aggregation": "mean"},
        ],
    },
}
"""By the built-in task's name. A text that is a function's name stands for that function."""

MODULES = {
    "mme": "mme.utils",
    "pope": "pope.utils",
    "ai2d": "ai2d.utils",
    "chartqa": "chartqa.utils",
    "scienceqa_img": "scienceqa.utils",
    "mmmu_val": "mmmu.utils",
    "ovo_forward": "ovobench.utils",
    "vending_bench2": "vending_bench2.utils",
    "unig2u_scene_visual_cot": "unig2u.illusionbench.arshia_utils",
}
"""Where the built-in task has its functions."""

DRAWING = '''

def scene_in_drawing(doc, results):
    """What the built-in task marks, and a mark for the picture that the answer names."""
    import json

    from PIL import Image

    said = json.loads(results[0])
    with Image.open(said["images"][0]) as drawn:
        redness = drawn.getpixel((3, 3))[0] / 255
    return {**illusionbench_arshia_process_results_scene(doc, [said["text"]]), "redness": redness}
'''


def files(names: list[str], suffix: str) -> dict[str, str]:
    """A benchmark's files with these tasks, each called NAME_SUFFIX."""
    found = {}
    for name in names:
        task = f"{name}_{suffix}"
        config = {
            "task": task,
            "dataset_path": "parquet",
            "dataset_kwargs": {"data_files": {"test": f"${{DATA}}/{name}.parquet"}},
            "test_split": "test",
            "output_type": "generate_until",
            "generation_kwargs": GREEDY,
            "metadata": {"version": 1.0},
            **TASKS[name],
        }
        if config["output_type"] == "multiple_choice":
            del config["generation_kwargs"]
        if "fewshot_split" in config:
            config["dataset_kwargs"]["data_files"]["dev"] = f"${{DATA}}/{name}_dev.parquet"
        for metric in config["metric_list"]:
            metric["higher_is_better"] = True
        module = f"of_{task}"
        text = yaml.safe_dump(config, sort_keys=False)
        if name in MODULES:
            # Anew for each loading, as lmms-eval has its own: mmmu keeps state in its module.
            functions = f"import sys\n\nsys.modules.pop('lmms_eval.tasks.{MODULES[name]}', None)\n"
            functions += f"from lmms_eval.tasks.{MODULES[name]} import *  # noqa: E402, F403\n"
            functions += DRAWING if name == "unig2u_scene_visual_cot" else ""
            found[f"{module}.py"] = functions
            text = _with_functions(text, module, functions)
        found[f"{task}.yaml"] = text
    return found


def _with_functions(text: str, module: str, functions: str) -> str:
    names: dict[str, Any] = {}
    exec(functions, names)  # our own text, from above
    lines = []
    for line in text.splitlines():
        head, separator, value = line.partition(": ")
        bare = value.strip("'!")
        if separator and bare.isidentifier() and callable(names.get(bare)):
            line = f"{head}: !function {module}.{bare}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def write_data(folder: Path, documents: int) -> None:
    """Write the documents of all tasks into a folder."""
    draw = random.Random(5)
    folder.mkdir(parents=True, exist_ok=True)
    for name in TASKS:
        rows = [ROWS[name](number, draw) for number in range(documents)]
        table = datasets.Dataset.from_list(rows)
        table.to_parquet(folder / f"{name}.parquet")
        if "fewshot_split" in TASKS[name]:
            rows = [ROWS[name](1000 + number, draw) for number in range(9)]
            datasets.Dataset.from_list(rows).to_parquet(folder / f"{name}_dev.parquet")
    (folder / "ovo").mkdir(exist_ok=True)
    for number in range(documents):
        for part in range(4):
            (folder / "ovo" / f"{number}_{part}.mp4").write_bytes(b"")


def _picture(draw: random.Random) -> Image.Image:
    return Image.new("RGB", (32, 32), draw.choice(COLOURS))


def _mme(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "question_id": f"{number // 2}.png",
        "image": _picture(draw),
        "category": ("color", "code_reasoning")[number // 2 % 2],
        "question": f"Is picture {number} {draw.choice(COLOURS)}? Please answer yes or no.",
        "answer": ("Yes", "No")[number % 2],
    }


def _pope(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "question_id": str(number),
        "image": _picture(draw),
        "question": f"Is there a {draw.choice(COLOURS)} thing in picture {number}?",
        "answer": draw.choice(["yes", "no"]),
    }


def _ai2d(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "question": f"Which colour has diagram {number}?",
        "options": list(COLOURS),
        "answer": str(draw.randrange(4)),
        "image": _picture(draw),
    }


def _chartqa(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "type": draw.choice(["human_test", "augmented_test"]),
        "question": f"How many bars has chart {number}?",
        "answer": draw.choice(["3", "12", "yes"]),
        "image": _picture(draw),
    }


def _scienceqa(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "image": _picture(draw),
        "question": f"Which colour is sample {number}?",
        "choices": list(COLOURS),
        "answer": draw.randrange(4),
        "hint": draw.choice(["", "Look at it."]),
    }


def _mmmu(number: int, draw: random.Random) -> dict[str, Any]:
    # None is open: for those the built-in scorer lists a set of strings, in an order that plain
    # lmms-eval does not repeat from process to process.
    return {
        "id": f"validation_{('Art', 'Math')[number % 2]}_{number}",
        "question": f"<image 1> What is figure {number}?",
        "options": str(list(COLOURS)),
        "question_type": "multiple-choice",
        "answer": draw.choice("ABCD"),
        "image_1": _picture(draw),
    }


def _arc(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "question": f"What is grass number {number}?",
        "choices": {"text": list(COLOURS), "label": list("ABCD")},
        "answerKey": draw.choice("ABCD"),
    }


def _mmlu(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "question": f" What follows from {number}? ",
        "choices": list(COLOURS),
        "answer": draw.randrange(4),
    }


def _ovo(number: int, draw: random.Random) -> dict[str, Any]:
    count = 2 + number % 3
    return {
        "id": number,
        "task": "SSR",
        "question": "",
        "answer": "",
        "test_info": [
            {"step": f"step {part} of {number}", "type": draw.randrange(2)} for part in range(count)
        ],
    }


def _vending(number: int, draw: random.Random) -> dict[str, Any]:
    state = {"cash": 100.0 + number, "inventory": 8, "price": 2.0, "cost_per_unit": 1.0}
    names = ("get_vending_status", "set_price", "restock", "simulate_days")
    return {
        "id": f"vending_{number}",
        "user_query": f"Operate vending machine {number}.",
        "initial_state": {**state, "daily_demand": 4, "days_elapsed": 0},
        "target_state": {"min_cash": 110.0 + draw.randrange(9), "min_days_elapsed": 2},
        "tools": [{"name": name, "description": name.replace("_", " ")} for name in names],
    }


def _scene(number: int, draw: random.Random) -> dict[str, Any]:
    scene = draw.choice(["Ocean", "Forest", "City", "Museum"])
    return {"image_name": f"animal-{number}-{scene}-Easy-1.5-90.png", "image": _picture(draw)}


ROWS = {
    "mme": _mme,
    "pope": _pope,
    "ai2d": _ai2d,
    "chartqa": _chartqa,
    "scienceqa_img": _scienceqa,
    "mmmu_val": _mmmu,
    "arc_easy": _arc,
    "mmlu": _mmlu,
    "ovo_forward": _ovo,
    "vending_bench2": _vending,
    "unig2u_scene_visual_cot": _scene,
}


def samples_of(lines: bytes) -> list[dict[str, Any]]:
    """A samples file."""
    return [json.loads(line) for line in lines.splitlines()]
