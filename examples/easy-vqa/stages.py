"""The two stages of training: what each learns, from what, and how well it does.

A stage has `groups` (parameters with their peak learning rates), `loss` and `check`.
"""

from __future__ import annotations

import collections
import math

import tiny_llava
import torch
import train_split
import transformers
from torch.nn import functional

QUESTIONS_PER_IMAGE = 8  # drawn anew for every step of stage 2
NAMING_RATE = 2e-3  # peak learning rates: of stage 1,
TOWER_RATE_IN_STAGE_2 = 3e-4  # of the tower in stage 2,
ANSWER_RATE = 2e-3  # and of everything else in stage 2


class NamingStage:
    """Stage 1: name an image's shape and colour by the decoder's own word embeddings.

    The mean of the projected patches is read as the decoder reads its own last state: normalised,
    then compared with each word's embedding. So the image's tokens start stage 2 near the words
    for what they show, and a question's word can find them.
    """

    def __init__(
        self,
        model: transformers.LlavaForConditionalGeneration,
        tokenizer: transformers.PreTrainedTokenizerFast,
        split: train_split.TrainSplit,
        rng: torch.Generator,
    ) -> None:
        self.model, self.split, self.rng = model, split, rng
        names = [*train_split.SHAPES, *train_split.COLOURS]
        self.name_ids = torch.tensor(tokenizer.convert_tokens_to_ids(names))
        self.norm = model.model.language_model.norm
        parts = [
            model.model.vision_tower,
            model.model.multi_modal_projector,
            self.norm,
            model.lm_head,  # its weight is the word embeddings'
        ]
        parameters = [each for part in parts for each in part.parameters()]
        self.groups = [{"params": parameters, "peak": NAMING_RATE}]

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        """Return the mean loss, a scalar, of the images at `index`, (batch,) int64."""
        shape, colour = self._scores(train_split.augment(self.split, index, self.rng))
        return functional.cross_entropy(shape, self.split.shape[index]) + functional.cross_entropy(
            colour, self.split.colour[index]
        )

    @torch.no_grad()
    def check(self) -> float:
        """Return the share, 0 to 1, of held-out shapes and colours named rightly."""
        index = self.split.held_out
        right = []
        truths = (self.split.shape[index], self.split.colour[index])
        for scores, truth in zip(self._scores(self.split.pixels[index]), truths, strict=True):
            known = truth != train_split.UNKNOWN
            right.append((scores.argmax(1) == truth)[known])
        return torch.cat(right).float().mean().item()

    def _scores(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen = self.model.model.get_image_features(pixel_values=normalise(pixels)).pooler_output
        patches = torch.stack(tuple(seen))  # (batch, patches, width)
        scores = self.model.lm_head(self.norm(patches.mean(1)))[:, self.name_ids]
        return scores.split([len(train_split.SHAPES), len(train_split.COLOURS)], dim=1)


class AnswerStage:
    """Stage 2: the answer token and </s> of each question.

    All questions about one image share one sequence: its image tokens, then the questions side
    by side. A block mask keeps each question from seeing the others and positions restart for
    each, so a question sees exactly what it sees when asked alone, and the image is encoded once.
    """

    def __init__(
        self,
        model: transformers.LlavaForConditionalGeneration,
        tokenizer: transformers.PreTrainedTokenizerFast,
        split: train_split.TrainSplit,
        rng: torch.Generator,
    ) -> None:
        self.model, self.tokenizer, self.split, self.rng = model, tokenizer, split, rng
        self.user_id = tokenizer.convert_tokens_to_ids("<|user|>")
        pairs = dict.fromkeys(pair for about in split.asked for pair in about)
        self.coded = {pair: self._encode(*pair) for pair in pairs}
        self.weight = answer_weights(split.asked[: split.learned])
        self.longest = max(map(len, self.coded.values()))
        tower = list(model.model.vision_tower.parameters())
        others = [each for name, each in model.named_parameters() if "vision_tower" not in name]
        self.groups = [
            {"params": tower, "peak": TOWER_RATE_IN_STAGE_2},
            {"params": others, "peak": ANSWER_RATE},
        ]

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean loss, a scalar, of some questions about each image at `index`.

        See answer_weights for the weights.
        """
        drawn = []
        for about in (self.split.asked[image] for image in index.tolist()):
            chosen = torch.randperm(len(about), generator=self.rng)[:QUESTIONS_PER_IMAGE]
            drawn.append([about[question] for question in chosen.tolist()])
        pixels = train_split.augment(self.split, index, self.rng)
        weights = torch.tensor([self.weight[pair] for about in drawn for pair in about])
        losses = functional.cross_entropy(*self._logits(pixels, drawn), reduction="none")
        return (losses.view(-1, 2) * weights[:, None]).mean()

    @torch.no_grad()
    def check(self) -> float:
        """Return the share, 0 to 1, of held-out questions with answer and </s> both right."""
        index = self.split.held_out
        asked = [self.split.asked[image] for image in index.tolist()]
        logits, truth = self._logits(self.split.pixels[index], asked)
        return (logits.argmax(1) == truth).view(-1, 2).all(1).float().mean().item()

    def _encode(self, question: str, answer: str) -> torch.Tensor:
        """Return the ids, (tokens,) int64, of what follows the image token."""
        turn = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text + answer, add_special_tokens=False)["input_ids"]
        assert ids[0] == self.user_id, "the image token goes right after the first one"
        return torch.tensor([*ids[1:], self.tokenizer.eos_token_id])

    def _logits(
        self, pixels: torch.Tensor, asked: list[list[tuple[str, str]]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, (2 * questions, vocabulary), and the true ids, (2 * questions,)."""
        ids, positions, mask, labels = self._pack(asked)
        output = self.model(
            input_ids=ids,
            pixel_values=normalise(pixels),
            position_ids=positions,
            attention_mask=mask,
            use_cache=False,
        )
        return output.logits[labels != train_split.UNKNOWN], labels[labels != train_split.UNKNOWN]

    def _pack(
        self, asked: list[list[tuple[str, str]]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, positions, attention mask and labels of one sequence for each image.

        With L tokens in a sequence: ids and labels (images, L), positions (images, L), all
        int64; mask (images, 1, L, L) bool, true where the row's token may see the column's.
        """
        images, slots = len(asked), max(map(len, asked))
        ids = torch.full((images, slots, self.longest), self.tokenizer.pad_token_id)
        labels = torch.full_like(ids, train_split.UNKNOWN)
        for row, pairs in enumerate(asked):
            for slot, pair in enumerate(pairs):
                coded = self.coded[pair]
                ids[row, slot, : len(coded)] = coded
                # <|assistant|> predicts the answer, the answer predicts </s>.
                labels[row, slot, len(coded) - 3 : len(coded) - 1] = coded[-2:]
        image = [self.model.config.image_token_id] * self.model.config.image_seq_length
        prefix = torch.tensor([self.user_id, *image]).expand(images, -1)
        shared = prefix.shape[1]
        slot_positions = shared + torch.arange(self.longest).repeat(slots)
        positions = torch.cat([torch.arange(shared), slot_positions])
        slot_of = 1 + torch.arange(slots).repeat_interleave(self.longest)
        block = torch.cat([torch.zeros(shared, dtype=torch.long), slot_of])  # 0: the shared prefix
        order = torch.arange(len(positions))
        mask = (order[:, None] >= order) & ((block[:, None] == block) | (block == 0))
        return (
            torch.cat([prefix, ids.flatten(1)], dim=1),
            positions.expand(images, -1),
            mask.expand(images, 1, -1, -1),
            torch.cat([torch.full_like(prefix, train_split.UNKNOWN), labels.flatten(1)], dim=1),
        )


def answer_weights(asked: list[list[tuple[str, str]]]) -> dict[tuple[str, str], float]:
    """Return a weight for each (question, answer), larger for the rarer answers to a question.

    "Is there a yellow shape?" is mostly answered no. Unweighted training stalled there, on what
    the wording alone predicts. Weights that give all answers to a question equal sums stalled at
    chance on yes or no: presumably since "not" and a match then each say nothing alone. The
    square root lies between the two.
    """
    times = collections.Counter(pair for about in asked for pair in about)
    questions = collections.Counter(question for about in asked for question, _ in about)
    answers = collections.Counter(question for question, _ in times)
    return {
        (question, answer): math.sqrt(
            questions[question] / (answers[question] * times[question, answer])
        )
        for question, answer in times
    }


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels as the processor's float32 pixel values, same shape."""
    return (pixels.float() / 255 - tiny_llava.IMAGE_MEAN) / tiny_llava.IMAGE_STD
