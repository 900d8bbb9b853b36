"""A plain TRL script with the settings of a run: the yardstick of bench/engine.py.

    python bench/plain_trl.py RUN_FOLDER OUT

SFTTrainer as its documentation has it: rows tokenised beforehand, a step is one padded batch. RUN_FOLDER is a finished
run of the one-box engine, whose trl.yaml gives the model, the rows of each step and the rates; a row over the length
counts in its batch without a loss, as there. OUT gets a JSON list of [loss, tokens, seconds since the start] for each
step.
"""

import json
import sys
import time
from pathlib import Path

from omr.training.trl.batches import EpochOrder
from omr.training.trl.config import EngineConfig, read_config
from omr.workspace import RunFolder


def rows(config: EngineConfig, tokenizer) -> list[dict[str, list[int]]]:
    """All rows of the run in the order in which they train."""
    lines = Path(config.data.path).read_bytes().splitlines()[: config.data.limit]
    order = EpochOrder(len(lines), config.batch, config.seed)
    made = []
    for number in (n for step in range(config.steps) for n in order.rows_of(step)):
        row = json.loads(lines[number])
        prompt, answer = (
            tokenizer(row[key], add_special_tokens=False)["input_ids"] for key in ("input", "output")
        )
        ids, labels = prompt + answer, [-100] * len(prompt) + answer
        if len(ids) > config.sequence_length:
            ids, labels = ids[:2], [-100, -100]
        made.append({"input_ids": ids, "labels": labels})
    return made


def main(folder: str, out: str) -> None:
    """Train, and write down each step."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    config = read_config(RunFolder(Path(folder)))
    torch.set_num_threads(config.threads)
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    model = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32)
    data = rows(config, tokenizer)
    tokens = [
        sum(len(row["input_ids"]) for row in data[at : at + config.batch])
        for at in range(0, len(data), config.batch)
    ]
    steps = []

    class Note(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in logs:
                steps.append([logs["loss"], tokens[state.global_step - 1], time.monotonic()])

    args = SFTConfig(
        output_dir=out + ".trainer",
        max_steps=config.steps,
        per_device_train_batch_size=config.batch,
        learning_rate=config.lr,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": config.min_lr},
        warmup_steps=config.warmup,
        optim="adamw_torch",
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        adam_epsilon=config.eps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[Note()],
    )
    trainer.train()
    Path(out).write_text(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
