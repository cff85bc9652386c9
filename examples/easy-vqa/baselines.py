"""Print what answering without the image scores on the test split of easy-VQA."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

import easy_vqa

YES_OR_NO = ("yes", "no")


def commonest(answers: Iterable[str]) -> str:
    """Return the answer given most often."""
    return collections.Counter(answers).most_common(1)[0][0]


def learn_by_question() -> dict[str, str]:
    """Return the commonest train answer for each wording of a question."""
    answers: dict[str, list[str]] = collections.defaultdict(list)
    for question, answer, _ in zip(*easy_vqa.get_train_questions(), strict=True):
        answers[question].append(answer)
    return {question: commonest(given) for question, given in answers.items()}


def score(guess: Callable[[str], str]) -> dict[str, float]:
    """Return the share of test questions, 0 to 1, that `guess` gets right: all, and by kind."""
    right: dict[str, list[bool]] = collections.defaultdict(list)
    for question, answer, _ in zip(*easy_vqa.get_test_questions(), strict=True):
        for metric in ("exact_match", "yesno_acc" if answer in YES_OR_NO else "open_acc"):
            right[metric].append(guess(question) == answer)
    return {metric: sum(marks) / len(marks) for metric, marks in right.items()}


def main() -> None:
    """Print both baselines."""
    majority = commonest(easy_vqa.get_train_questions()[1])
    by_question = learn_by_question()
    guesses: dict[str, Callable[[str], str]] = {
        f"always {majority!r}": lambda _: majority,
        "commonest answer to the question": lambda q: by_question.get(q, majority),
    }
    for name, guess in guesses.items():
        shares = "  ".join(f"{metric} {share:.4f}" for metric, share in score(guess).items())
        print(f"{name:34}{shares}")


if __name__ == "__main__":
    main()
