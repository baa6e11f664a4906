"""One process that uses the model: embed.py URI FOLDER.

Builds MiniLM from the tensors that weightd maps, checks that nothing was copied and that it computes what the model
from the file computes, prints similarities of sentences, touches every page, and prints its share of the memory. Waits
for a line on stdin before each of the last two, and before it ends. FOLDER holds config, tokenizer and, to compare
with, the weights.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
import transformers
import weightd
from memory import address_ranges, segment_share
from tokenizers import Tokenizer

SENTENCES = [
    "A man is playing a guitar on stage.",
    "Somebody makes music in front of an audience.",
    "The server room needs more cooling.",
]


def build(uri: str, folder: Path) -> tuple[transformers.BertModel, weightd.Model]:
    """The model over mapped tensors, and the lease."""
    begin = time.perf_counter()
    lease = weightd.attach(uri, framework="pt", timeout=60)
    attached = time.perf_counter()
    config = transformers.AutoConfig.from_pretrained(folder)
    bert, report = transformers.BertModel.from_pretrained(
        None, config=config, state_dict=lease.state_dict(), output_loading_info=True
    )
    if report["missing_keys"]:
        sys.exit(f"not all weights are there: {report['missing_keys']}")
    built = time.perf_counter()
    print(f"attached in {1e3 * (attached - begin):.1f} ms, built in {1e3 * (built - attached):.0f} ms")
    return bert, lease


def check_nothing_copied(bert: transformers.BertModel) -> None:
    """Every parameter lies in the mapping of weightd's segment."""
    ranges = address_ranges("self")
    names = [
        name
        for name, parameter in bert.named_parameters()
        if not any(parameter.data_ptr() in range(begin, end) for begin, end in ranges)
    ]
    if names:
        sys.exit(f"copied, not mapped: {names}")
    print(f"all {sum(1 for _ in bert.parameters())} parameters lie in the shared mapping")


@torch.inference_mode()
def embed(bert: transformers.BertModel, folder: Path) -> torch.Tensor:
    """One normalised vector a sentence, [3, 384]."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(SENTENCES)
    ids = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    hidden = bert(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(mean)


def main() -> None:
    """What the module says."""
    uri, folder = sys.argv[1], Path(sys.argv[2])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    bert, lease = build(uri, folder)
    check_nothing_copied(bert)
    vectors = embed(bert, folder)
    if not torch.equal(vectors, embed(transformers.BertModel.from_pretrained(folder), folder)):
        sys.exit("the embeddings differ from those of the model from the file")
    print("embeddings equal those of the model from the file, bit for bit")
    for one, other in ((0, 1), (0, 2)):
        print(f"{vectors[one] @ vectors[other]:+.3f}  {SENTENCES[one]!r} and {SENTENCES[other]!r}")
    print("ready", flush=True)
    sys.stdin.readline()
    for name in lease.tensors:
        sum(lease.raw(name)[::4096])
    print("touched", flush=True)
    sys.stdin.readline()
    share = segment_share("self")
    print(f"maps {share.rss / 2**20:.1f} MiB of weights; its share of them is {share.pss / 2**20:.1f} MiB", flush=True)
    sys.stdin.readline()
    lease.close()


if __name__ == "__main__":
    main()
