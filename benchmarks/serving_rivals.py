"""The servers that people write today, for `benchmarks.serving`: each request by itself.

python -m benchmarks.serving_rivals transformers --port 8001            # one fine-tuned model
python -m benchmarks.serving_rivals peft --port 8002 --adapters 100     # LoRA adapters, switched
"""

import argparse
import threading

import torch
import uvicorn
from fastapi import FastAPI
from peft import LoraConfig, get_peft_model
from pydantic import BaseModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from softcue.encoder.load import find_minilm


class Asked(BaseModel):
    """What a client sends."""

    inputs: str
    adapter: str


def make(side: str, adapters: int) -> FastAPI:
    """A server that answers a request with one forward pass of transformers."""
    folder = find_minilm()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    if side == "peft":
        config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
        model = get_peft_model(model, config, adapter_name="a0")
        for number in range(1, adapters):
            model.add_adapter(f"a{number}", config)
        model.eval()
    app, turn = FastAPI(), threading.Lock()

    @app.post("/predict")
    def predict(asked: Asked) -> list[dict[str, float | str]]:
        tokens = tokenizer(asked.inputs, return_tensors="pt", truncation=True, max_length=128)
        with turn, torch.inference_mode():  # a switched adapter is the whole model's
            if side == "peft":
                model.set_adapter(f"a{int(asked.adapter[1:]) % adapters}")
            chances = model(**tokens).logits[0].softmax(-1).tolist()
        return [{"label": f"LABEL_{i}", "score": chance} for i, chance in enumerate(chances)]

    return app


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("side", choices=("transformers", "peft"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--adapters", type=int, default=1)
    given = parser.parse_args()
    app = make(given.side, given.adapters)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
