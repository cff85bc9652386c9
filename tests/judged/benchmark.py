"""easy-VQA with a judge for a scorer, asked in the three ways that lmms-eval's tasks have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "easy-vqa"
VERDICTS_EACH = 4
"""Each document is judged by three clients, by one of them twice."""

UTILS = '''
"""Judged as lmms-eval's own tasks do it: three clients, and errors that become a zero."""

import os

import requests
from lmms_eval.llm_judge import Request, ServerConfig, get_server
from openai import OpenAI

API_URL = os.getenv("OPENAI_API_URL", "https://api.openai.com/v1/chat/completions")
HEADERS = {"Authorization": "Bearer " + os.getenv("OPENAI_API_KEY", "YOUR_API_KEY")}
CONFIG = ServerConfig(model_name="gpt-4o", num_retries=2, retry_delay=1)
SERVER = get_server(server_name=os.getenv("API_TYPE", "openai"), config=CONFIG)
CLIENT = OpenAI()


def said(ask):
    """1.0 for yes; 0.0 for no, and for an error: the trap."""
    try:
        return float(ask().strip() == "yes")
    except Exception:
        return 0.0


def by_server(doc):
    messages = [{"role": "user", "content": "server: " + doc["question"]}]
    return SERVER.evaluate(Request(messages=messages, config=CONFIG)).content


def by_client(doc):
    messages = [{"role": "user", "content": "client: " + doc["question"]}]
    answer = CLIENT.chat.completions.create(model="gpt-4o", messages=messages, temperature=0.7)
    return answer.choices[0].message.content


def by_post(doc):
    messages = [{"role": "user", "content": "post: " + doc["question"]}]
    body = {"model": "gpt-3.5-turbo", "messages": messages, "temperature": 0}
    response = requests.post(API_URL, headers=HEADERS, json=body, timeout=30)
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


def process_results(doc, results):
    twice = [said(lambda: by_client(doc)), said(lambda: by_client(doc))]
    return {
        "by_server": said(lambda: by_server(doc)),
        "by_client": sum(twice) / 2,
        "by_post": said(lambda: by_post(doc)),
    }
'''


def benchmark() -> dict[str, Any]:
    """easy-VQA's own documents and prompts, with a judge for a scorer."""
    spec = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())["spec"]
    task = yaml.safe_load(spec["files"]["easy_vqa.yaml"].replace("!function ", "function-"))
    task["process_results"] = "function-judged_utils.process_results"
    names = ("by_server", "by_client", "by_post")
    task["metric_list"] = [
        {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names
    ]
    text = yaml.safe_dump(task).replace("function-", "!function ")
    files = {"easy_vqa.yaml": text, "judged_utils.py": UTILS}
    return {**spec, "files": {**spec["files"], **files}}
