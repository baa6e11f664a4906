"""What it takes until transformers' models are there: through weightd, by transformers, and by tensorizer.

.venv/bin/python tests/bench/frameworks.py [--rounds 15] [--mib 512]

All files are in the page cache and the daemon has the models; "downloaded" is curl from a web server on loopback, and
then transformers: the least that a process pays which finds no file. Everything runs in one process, interleaved, after
one round that nobody counts. Times end when the model could be used, before its first forward.
"""

import argparse
import gc
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import typing

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from processes import ROOT, Daemon, Nginx, pss_of_segment  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.append(str(ROOT / ".venv/tensorizer/2.12.1"))

import torch  # noqa: E402
import transformers  # noqa: E402
import weightd  # noqa: E402
from weightd.serialization import save_file  # noqa: E402

MIB = 1 << 20
PROCESSES = 4

# A process that has the model and has computed with it.
HOLDS = """
import sys, torch, transformers, weightd
cls, uri, config, directory = sys.argv[1:]
transformers.logging.disable_progress_bar()
model = weightd.transformers.from_pretrained(getattr(transformers, cls), uri, config=config, socket_dir=directory)
with torch.no_grad():
    model(torch.tensor([[1, 2, 3]]))
    total = sum(float(parameter.flatten()[:: 64].sum()) for parameter in model.parameters())
print("ready", flush=True)
sys.stdin.readline()
"""


class Subject(typing.NamedTuple):
    """A model in transformers' own folder, and as one tensorizer file."""

    name: str
    cls: type
    folder: pathlib.Path
    tensors: pathlib.Path

    @property
    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))


def minilm(scratch: pathlib.Path) -> Subject:
    """The model that the quickstart has."""
    script = str(ROOT / "deploy/quickstart/model_folder.py")
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    return subject("MiniLM", transformers.BertModel, pathlib.Path(printed.strip()), scratch)


def llama(scratch: pathlib.Path, mib: int) -> Subject:
    """Shards, tied embeddings, bf16."""
    config = transformers.LlamaConfig(
        vocab_size=32000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=max(1, (mib - 62) // 32),
        num_attention_heads=16, num_key_value_heads=16, tie_word_embeddings=True, dtype="bfloat16",
    )  # fmt: skip
    with transformers.initialization.no_init_weights():
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    model.tie_weights()
    model.save_pretrained(scratch / "llama", max_shard_size=f"{mib // 4}MB")
    return subject("Llama", transformers.LlamaForCausalLM, scratch / "llama", scratch)


def subject(name: str, cls: typing.Any, folder: pathlib.Path, scratch: pathlib.Path) -> Subject:
    """With its tensorizer file, which has tied weights once, as tensorizer's users write them."""
    model = cls.from_pretrained(folder)
    state = model.state_dict()
    kept = {name: tensor for name, tensor in state.items() if name not in (model.all_tied_weights_keys or {})}
    save_file(kept, scratch / f"{name}.tensors")
    return Subject(name, cls, folder, scratch / f"{name}.tensors")


def ways(chosen: Subject, socket_dir: pathlib.Path, web: Nginx) -> dict[str, typing.Callable[[], object]]:
    """What is compared: each gives a model."""
    config = transformers.AutoConfig.from_pretrained(chosen.folder)

    def through_weightd(uri: pathlib.Path, **options: typing.Any) -> object:
        return weightd.transformers.from_pretrained(chosen.cls, str(uri), socket_dir=socket_dir, **options)

    def into() -> object:
        return weightd.torch.load_into(shells.pop(), weightd.attach(str(chosen.folder), socket_dir), strict=False)

    def tensorizer(verify: bool = False) -> object:
        from tensorizer import TensorDeserializer
        from tensorizer.utils import no_init_or_tensor

        with torch.device("meta"):
            model = no_init_or_tensor(lambda: chosen.cls(config))
        with TensorDeserializer(str(chosen.tensors), device="cpu", verify_hash=verify) as tensors:
            kept = dict(tensors)
        model.load_state_dict(kept, strict=False, assign=True)
        return model

    shells: list[torch.nn.Module] = []

    def shell() -> None:
        with weightd.torch.parameters_on_meta():
            default = torch.get_default_dtype()
            torch.set_default_dtype(config.dtype or torch.float32)
            shells.append(chosen.cls(config))
            torch.set_default_dtype(default)

    into.before = shell  # type: ignore[attr-defined]
    names = [path.name for path in chosen.folder.iterdir() if path.suffix in (".json", ".safetensors")]
    copy = chosen.tensors.parent / "copy"

    def downloaded() -> object:
        targets = [word for name in names for word in ("-o", str(copy / name), web.url(f"{chosen.name}/{name}"))]
        subprocess.run(["curl", "--noproxy", "*", "--no-progress-meter", "-fZ", *targets], check=True)
        return chosen.cls.from_pretrained(copy)

    def empty() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()

    downloaded.before = empty  # type: ignore[attr-defined]
    return {
        "weightd": lambda: through_weightd(chosen.folder),
        "weightd, .tensors": lambda: through_weightd(chosen.tensors, config=chosen.folder),
        "load_into": into,
        "transformers": lambda: chosen.cls.from_pretrained(chosen.folder),
        "downloaded": downloaded,
        "tensorizer": tensorizer,
        "tensorizer, verified": lambda: tensorizer(verify=True),  # as weightd's bytes are
    }


def timed(way: typing.Callable[[], object]) -> measure.Contender:
    """Without what it needs beforehand, and without taking the model down."""

    def run() -> measure.Sample:
        getattr(way, "before", lambda: None)()
        gc.collect()
        gc.disable()  # what torch's import made takes 80 ms to walk, whenever it comes
        cpu, begin = time.process_time(), time.perf_counter()
        model = way()
        sample = measure.Sample(time.perf_counter() - begin, time.process_time() - cpu)
        gc.enable()
        del model
        return sample

    return run


def check(chosen: Subject, socket_dir: pathlib.Path) -> None:
    """The same outputs, bit for bit, and nothing copied."""
    theirs = chosen.cls.from_pretrained(chosen.folder)  # type: ignore[attr-defined]
    for uri, config in ((chosen.folder, None), (chosen.tensors, chosen.folder)):
        ours, report = weightd.transformers.from_pretrained(
            chosen.cls, str(uri), config=config, socket_dir=socket_dir, output_loading_info=True
        )
        ids = torch.tensor([[1, 2, 3]])
        assert report.copied == {}, report
        with torch.no_grad():
            assert torch.equal(ours(ids)[0], theirs(ids)[0]), "outputs differ"


def pss(chosen: Subject, socket_dir: pathlib.Path) -> float:
    """What the weights take in all processes together, in copies of the files."""
    pipe = subprocess.PIPE
    arguments = [chosen.cls.__name__, str(chosen.folder), str(chosen.folder), str(socket_dir)]
    started = [
        subprocess.Popen([sys.executable, "-c", HOLDS, *arguments], stdin=pipe, stdout=pipe, text=True)
        for _ in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"  # type: ignore[union-attr]
    taken = sum(pss_of_segment(process.pid) for process in started)
    for process in started:
        process.communicate("\n")
        assert process.returncode == 0
    return taken / chosen.nbytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--mib", type=int, default=512)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    reached = []
    with tempfile.TemporaryDirectory() as name, measure.HugePages("advise"):
        scratch = pathlib.Path(name)
        daemon = Daemon(scratch, "host:\n  budget: 4GiB\n").start()
        (scratch / "files").mkdir()
        web = Nginx(scratch / "nginx", scratch / "files")
        for chosen in (minilm(scratch), llama(scratch, options.mib)):
            (scratch / "files" / chosen.name).symlink_to(chosen.folder)
            for uri in (chosen.folder, chosen.tensors):
                daemon.ctl("preload", str(uri))
            check(chosen, daemon.socket_dir)
            contenders = {way: timed(call) for way, call in ways(chosen, daemon.socket_dir, web).items()}
            measure.rounds(contenders, 1, lambda: None)
            samples = measure.rounds(contenders, options.rounds, lambda: None)
            print(f"{chosen.name}, {chosen.nbytes / MIB:.0f} MiB")
            measure.table(samples, chosen.nbytes)
            walls = {way: [sample.wall for sample in runs] for way, runs in samples.items()}
            for ours, theirs, figure in (
                ("weightd", "transformers", 1.15),
                ("weightd, .tensors", "tensorizer, verified", 0.1),
                ("weightd, .tensors", "tensorizer", 0.1),
                ("weightd", "downloaded", 0.1),
                ("load_into", "transformers", 0.4),
            ):
                what = f"{chosen.name}: {ours} against {theirs}"
                reached.append(measure.verdict(what, figure, walls[ours], walls[theirs], at_least=False))
            copies = pss(chosen, daemon.socket_dir)
            print(f"{chosen.name}: weights of {PROCESSES} processes: {copies:.3f} copies, wanted <= 1.01")
            reached.append(copies <= 1.01)
        web.end()
        daemon.end()
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
