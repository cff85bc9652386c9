"""Train the tiny Llava on the train split of easy-VQA, on one CPU thread; see --help.

Stage 1 trains the vision tower and its projector to name each image's shape and colour.
Stage 2 trains the whole model to answer. A copy of the model early in stage 2 becomes the
half-trained checkpoint, so that comparisons and gates have a worse model to tell apart.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator

import stages
import tiny_llava
import torch
import train_split
import transformers
from torch import nn

IMAGES_PER_STEP = 32
WARM_UP = 100  # steps
REPORT_EVERY = 200  # steps
HALF_CHECK_EVERY = 25  # steps; accuracy climbs by a few points in that time


def draw_batches(images: int, steps: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield for each step image indexes, (IMAGES_PER_STEP,) int64, reshuffled every epoch."""
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < IMAGES_PER_STEP:
            order = torch.randperm(images, generator=rng)
        yield order[:IMAGES_PER_STEP]
        order = order[IMAGES_PER_STEP:]


def rate_at(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at `step`: warm-up, flat, cosine down to 1 %.

    The cosine takes only the second half: with one from the start, yes or no about colours was
    still being learned when the rate ran out.
    """
    decayed = max(0.0, 2 * step / steps - 1)  # 0 in the first half, then up to 1
    cosine = 0.5 * (1 + math.cos(math.pi * decayed))
    return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * cosine)


def fit(
    stage: stages.NamingStage | stages.AnswerStage,
    steps: int,
    clock: Callable[[], float],
    after_step: Callable[[int], None] | None = None,
) -> None:
    """Run `steps` steps of AdamW on `stage`; `after_step` gets the number of steps done."""
    optimizer = torch.optim.AdamW(stage.groups, weight_decay=0.05, betas=(0.9, 0.98))
    parameters = [each for group in stage.groups for each in group["params"]]
    start, losses = clock(), []
    for step, index in enumerate(draw_batches(stage.split.learned, steps, stage.rng)):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(step, steps)
        loss = stage.loss(index)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if after_step:
            after_step(step + 1)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            print(
                f"  step {step + 1}/{steps}  loss {sum(losses) / len(losses):.4f}"
                f"  held-out accuracy {stage.check():.4f}  {clock() - start:.0f} s",
                flush=True,
            )
            losses.clear()


def save(
    model: transformers.LlavaForConditionalGeneration,
    processor: transformers.LlavaProcessor,
    folder: pathlib.Path,
    origin: dict[str, float],
) -> None:
    """Write a checkpoint that from_pretrained reads, and in training.json how it came about."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(origin, indent=2) + "\n")
    weights = folder / "model.safetensors"
    weights.chmod(0o644)  # safetensors makes it 0600: a pod running as another user could not read
    print(f"wrote {folder} ({weights.stat().st_size} bytes of weights)", flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train a Llava of 210 thousand parameters on the train split of easy-VQA and "
        "write two checkpoints: the whole schedule, and one taken early in stage 2. "
        "Needs torch, transformers, pillow and easy-vqa; takes 9 to 12 minutes on one CPU core.",
        epilog="One thread and one seed give the same weights again on the same machine. A quick "
        "trial of the script itself: --naming-steps 20 --steps 50 --half-accuracy 0",
    )
    add = parser.add_argument
    add("--out", type=pathlib.Path, default="models/full", help="fully trained [%(default)s]")
    add("--half-out", type=pathlib.Path, help="half trained [a folder 'half' beside --out]")
    add(
        "--half-accuracy",
        type=float,
        default=0.85,
        metavar="SHARE",
        help="the half-trained model is the first in stage 2 to answer this share of the "
        "held-out train questions rightly [%(default)s]",
    )
    add(
        "--naming-steps", type=int, default=1600, metavar="N", help="steps of stage 1 [%(default)s]"
    )
    add("--steps", type=int, default=2000, metavar="N", help="steps of stage 2 [%(default)s]")
    add("--seed", type=int, default=0, help="of the weights and of the draws [%(default)s]")
    return parser.parse_args()


def main() -> None:
    """Train, and write both checkpoints."""
    arguments = parse_arguments()
    half_out = arguments.half_out or arguments.out.parent / "half"
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # a second thread changes sums in their last bits, and is no faster
    torch.manual_seed(arguments.seed)
    rng = torch.Generator().manual_seed(arguments.seed)

    split = train_split.load()
    texts = (f"{question} {answer}" for about in split.asked for question, answer in about)
    processor = tiny_llava.build_processor(tiny_llava.build_tokenizer(texts))
    model = tiny_llava.build_model(processor.tokenizer).train()
    print(f"{model.num_parameters()} parameters, {len(processor.tokenizer)} words", flush=True)

    print("stage 1: names of shapes and colours", flush=True)
    naming = stages.NamingStage(model, processor.tokenizer, split, rng)
    fit(naming, arguments.naming_steps, time.monotonic)

    print("stage 2: answers", flush=True)
    answers = stages.AnswerStage(model, processor.tokenizer, split, rng)
    half_steps: list[int] = []

    def origin(steps: int) -> dict[str, float]:
        return {
            "seed": arguments.seed,
            "naming_steps": arguments.naming_steps,
            "steps": steps,
            "held_out_accuracy": round(answers.check(), 4),
        }

    def keep_half(done: int) -> None:
        if half_steps or done % HALF_CHECK_EVERY or answers.check() < arguments.half_accuracy:
            return
        half_steps.append(done)
        save(model, processor, half_out, origin(done))

    fit(answers, arguments.steps, time.monotonic, after_step=keep_half)
    save(model.eval(), processor, arguments.out, origin(arguments.steps))
    if not half_steps:
        raise SystemExit(
            f"error: held-out accuracy never reached {arguments.half_accuracy}, so {half_out} was "
            "not written: lower --half-accuracy or raise --steps"
        )


if __name__ == "__main__":
    main()
