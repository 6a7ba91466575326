"""The words of docs/performance.md and docs/performance-tables.md, which scripts.performance writes."""

from collections.abc import Mapping

PAGE = """# Performance

How fast softcue trains and answers, compared with transformers and PEFT on the same machine, model and
batches.

- "x default" is how many times as fast as the rival with its defaults: float32 and random batches.
- "x best" is against the rival at its best: batches sorted by length, and bf16 if the processor has units for
  it.
- The machines were shared, so compare only ratios. One kind has units for bfloat16, one has not. No GPU was
  used.

[All tables](performance-tables.md) has every figure with its command and machine.
`python -m scripts.performance` writes both pages.
"""
HEAD = """# Performance: all tables

[The short page](performance.md) has the targets and the plots.

softcue is compared with transformers and PEFT on the same machine, model and token ids, in batches of 32
texts, truncated at 128 tokens. The machines were shared, so **compare ratios, not seconds**. Nothing was run
on CUDA.

The command above each table makes its file in `benchmarks/results`. `SOFTCUE_DATA` is the folder of the data
sets. `python -m scripts.performance` writes this page from the files. Most tables are there twice: for a
processor with units for bfloat16, and for one without. The machine is named below each table.

## What is compared

- **default** is the rival with the defaults of transformers' Trainer: float32, random batches, dynamic
  padding and fused AdamW.
- **best** is the rival at its best: batches sorted by length, and bf16 autocast (bf16 weights for inference)
  if the processor has units for it. On other processors bf16 is many times slower than float32.
- PEFT has prefixes of 16 tokens, and LoRA of rank 8.
- softcue also uses bf16 if the processor has units for it, and float32 otherwise. In training it takes the
  same batches as the rival: random ones against the default, and texts of similar length (`group_by_length`)
  against the best. In inference it gets all texts and forms its own batches, of similar length and up to
  4,096 tokens, as `Predictor` does.
- `minilm` has its own weights. `bert-base` and `roberta-large` are models of those sizes with random weights
  and MiniLM's tokenizer.

## How it is measured

- The sides take turns, round by round.
- In training and inference each method has its own process, as in real use. Each round has new texts, after
  some warm-up texts that do not count. In other benchmarks all sides share one process, and with it oneDNN's
  cache of 1,024 matrix products.
- Rivals also get the setting of `softcue/encoder/memory.py`, which avoids page faults.
- A figure is the median of the rounds. An "x" is the median over rounds of the ratio within a round.
- The spread is half the distance between the quartiles, as a share of the median. With fewer than four rounds
  it is half the range.
- Three benchmarks differ. Memory has one process for each side. The packed sweep is one round of whole
  commands. Precision measures quality, not time.
"""
TAIL = """## What makes it fast

[Architecture](architecture.md#complexity-for-speed) says where the code is more complex for the sake of
speed.

With the C++ kernels:

- `softcue/kernels/attention.cpp`: attention reads the rows and prefix of each example without copying or
  padding them. For the backward pass it keeps one number for each row and head.
- `softcue/kernels/norm.cpp`: dropout, residual and norm are one pass. The dropout mask is drawn again in the
  backward pass instead of being stored.
- `softcue/kernels/gelu.cpp`: GELU and its derivative come from one exponential.
- `softcue/kernels/matmul.cpp`: in float32 a frozen weight is rearranged in the cache while it is multiplied,
  or once for all if there are few rows. GELU, sums and the product with its derivative belong to the same
  pass.
- `softcue/kernels/thin.cpp`: LoRA's two low-rank products, their scale and their sum are one pass, over rows
  of any mix of adapters.

If the kernels were not built, and for DeBERTa, whose attention bias depends on more than the distance:

- `softcue/attention/layout.py`: attention works on buckets of examples of similar length, instead of padding
  all to the longest. There are few bucket sizes, so new batches need few new kernels of oneDNN.
- `softcue/attention/buckets.py`: the backward pass of a gather is another gather, where torch would add into
  zeros.
- `softcue/attention/products.py`: the backward pass of attention is written by hand. Without a backward pass,
  `Sight.glance` is shorter still.

In all cases:

- `softcue/kernels/dropout.py`, `keep`: dropout compares 8 random bits for each element, as integers.
- `softcue/encoder/core.py`: the last layer computes only the rows that the head reads: [CLS], or the first
  token of each word.
- `softcue/encoder/linear.py`: in bfloat16 frozen weights are rearranged once for the processor's kernels.
- `softcue/encoder/linear.py`, `longer`: the number of rows of a product is rounded up, so that new batches
  need no new kernels of oneDNN.
- `softcue/batch.py`: a batch is one tensor, which is made and moved as a whole and then split.
- `softcue/encoder/frozen.py`: everything after attention in a frozen layer is one autograd step instead of
  ten.
- `softcue/encoder/memory.py`: freed memory is kept, and not returned to the system after every layer.
- `softcue/model.py`, `Model.serve`: a served cue is kept in the encoder's precision, so a forward pass
  converts nothing.
- `softcue/training/optim.py`, `softcue/encoder/core.py`: full fine-tuning uses torch's fused AdamW, and
  computes embedding gradients only for the words that occur.
"""

SECTIONS: Mapping[str, str] = {
    "training": "One optimiser step for each batch. Classifiers read [CLS] through the pooler, as in "
    "transformers; with mean pooling they read every row.",
    "fresh": "A training step on random batches that were never seen before, and on eight batches that "
    "repeat. Each side has its own texts.",
    "inference": "Texts in batches, and one text at a time. transformers is the plain classifier, without an "
    "adapter.",
    "mixed": "One forward pass over texts of many tasks, compared with the encoder alone on the same rows, "
    "and with PEFT's two ways of doing this.",
    "scaling": "The time of a forward pass as one thing grows: text length, batch, adapters in memory, or "
    "prefix. us: microseconds.",
    "roofline": "The encoder's matrix products alone, and the fraction of their speed that training and "
    "inference with PASTA reach.",
    "kernels": "softcue with and without `softcue/kernels`, in one process. Tables of bfloat16 were "
    "made without them.",
    "shares": "How the time of a training step divides, with batches by length. Measured by "
    "torch's profiler, whose own cost falls between operators.",
    "linear": "`softcue train --method probe`, and scikit-learn's linear model (C or alpha 1) on features of "
    "the same encoder; 2,000 rows, from texts to scores.",
    "serving": "`softcue serve` with 1,000 adapters of five methods, Zipf-distributed, 64 connections, texts "
    "of sst2. It is compared with the same server with one adapter, a FastAPI server that runs transformers "
    "for each request, and one that switches PEFT's adapters. Load and server share the cores. `at first`: "
    "requests a second while adapters are still being loaded. The other figures are from later, when each "
    "adapter was asked once. After that the load is four times what the server can answer, with a deadline "
    "of 4 seconds.",
    "cliff": "The same server with all adapters in memory, and with memory for one in a hundred. 64 clients, "
    "Zipf-distributed over 1,000 adapters of a bank.",
    "fan_out": "Eight tasks on one text. The layers that no adapter changes run once. Compared with "
    "eight rows in one batch, and with eight rows one by one.",
    "memory": "Peak memory of a process over four training steps, without the memory of its imports.",
    "packed_sweep": "PASTA runs on sst2: one `softcue sweep`, and the same number of `softcue train` "
    "one after another.",
    "grid_search": "`PackedGridSearch` and scikit-learn's `GridSearchCV` over the same estimator: PASTA, "
    "four rates, four folds, two epochs over messages of a help desk.",
    "precision": "PASTA, means over three seeds. `from float32` is the difference of bfloat16 to float32, in "
    "standard deviations between seeds.",
}
