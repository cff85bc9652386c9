"""Write the test split of easy-VQA as one parquet file, its images embedded; see --help."""

from __future__ import annotations

import argparse
import os
import pathlib

import datasets
import easy_vqa
import pyarrow
import pyarrow.parquet

FILE_NAME = "easy_vqa_test.parquet"
FEATURES = datasets.Features(
    {
        "question_id": datasets.Value("int64"),
        "image": datasets.Image(),  # the PNG's bytes, 64 x 64 RGB
        "question": datasets.Value("string"),
        "answer": datasets.Value("string"),
    }
)


def read_rows() -> dict[str, list[object]]:
    """Return the test questions, column by column, in the order of the package's question file."""
    questions, answers, image_ids = easy_vqa.get_test_questions()
    paths = easy_vqa.get_test_image_paths()
    png = {image_id: pathlib.Path(path).read_bytes() for image_id, path in paths.items()}
    return {
        "question_id": list(range(len(questions))),
        "image": [{"bytes": png[each], "path": f"{each}.png"} for each in image_ids],
        "question": questions,
        "answer": answers,
    }


def is_whole(file: pathlib.Path, rows: int) -> bool:
    """Return whether `file` is a readable parquet file with our columns and so many rows."""
    try:
        footer = pyarrow.parquet.read_metadata(file)
    except (FileNotFoundError, pyarrow.ArrowInvalid):  # absent, or cut short
        return False
    return footer.num_rows == rows and footer.schema.to_arrow_schema().names == list(FEATURES)


def write(file: pathlib.Path, rows: dict[str, list[object]]) -> None:
    """Write `rows` to `file`, which is either whole or not there at any moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        datasets.Dataset.from_dict(rows, features=FEATURES).to_parquet(unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def main() -> None:
    """Write the file unless it is there."""
    parser = argparse.ArgumentParser(
        description=f"Write DIR/{FILE_NAME} (question_id, image, question, answer) from the test "
        "split inside the easy-vqa package. Nothing is downloaded. A whole file is left as it is.",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path(__file__).parent / "data",
        metavar="DIR",
        help="folder [data, beside this file]",
    )
    file = parser.parse_args().out / FILE_NAME
    rows = read_rows()
    count = len(rows["question_id"])
    if is_whole(file, count):
        print(f"{file} is already there, nothing to do: {count} rows, {file.stat().st_size} bytes")
        return
    datasets.disable_progress_bars()
    write(file, rows)
    print(f"wrote {file}: {count} rows, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
