"""weightd.transformers over the real daemon, and on a GPU's stand-in."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import weightd
from weightd.serialization import save_file

from conftest import Daemon, GpuModel, Moves

IDS = torch.tensor([[1, 2, 3]])
SMALL: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}

Load = Callable[..., tuple[Any, Any]]


def llama(**changes: Any) -> Any:
    torch.manual_seed(1)
    settings = {**SMALL, "num_key_value_heads": 2, "tie_word_embeddings": True, **changes}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).to(torch.bfloat16).eval()


def mixtral() -> Any:
    torch.manual_seed(1)
    settings = transformers.MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4)
    return transformers.MixtralForCausalLM(settings).eval()


def bert() -> Any:
    torch.manual_seed(1)
    return transformers.BertForPreTraining(transformers.BertConfig(**SMALL)).eval()


class OwnConfig(transformers.PreTrainedConfig):
    model_type = "weightd-test"

    def __init__(self, width: int = 4, **options: Any) -> None:
        self.width = width
        super().__init__(**options)


class Own(transformers.PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.linear = torch.nn.Linear(config.width, config.width)
        self.post_init()


def saved(module: Any, folder: Path, **options: Any) -> Path:
    module.config.dtype = module.dtype
    module.save_pretrained(folder, **options)
    return folder


@pytest.fixture
def load(daemon: Daemon) -> Load:
    """from_pretrained of a folder, or of a file with the config given; and its report."""

    def call(cls: Any, path: Path, **options: Any) -> tuple[Any, Any]:
        options = {"socket_dir": daemon.socket_dir, **options}
        module, report = weightd.transformers.from_pretrained(cls, str(path), output_loading_info=True, **options)
        return module, report

    return call


def assert_same(module: Any, written: Any) -> None:
    assert not module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    for ours, theirs in zip(module(IDS), written(IDS), strict=True):
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs)


def test_nothing_is_copied_of_shards_with_tied_embeddings(load: Load, tmp_path: Path) -> None:
    written = llama()
    folder = saved(written, tmp_path / "llama", max_shard_size="20kB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    module, report = load(transformers.AutoModelForCausalLM, folder)
    assert isinstance(module, transformers.LlamaForCausalLM)
    assert (report.copied, report.missing, report.unexpected) == ({}, (), ())
    assert_same(module, written)
    assert module.lm_head.weight is module.model.embed_tokens.weight
    lowest, end = mapping()
    for name, parameter in module.named_parameters():
        assert lowest <= parameter.data_ptr() < end, name
    assert module.name_or_path == f"file://{folder}"


def mapping() -> tuple[int, int]:
    """Where the segment is mapped."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:weightd" in line]
    ends = [int(end, 16) for line in lines for end in line.split()[0].split("-")]
    return min(ends), max(ends)


TINY = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "AlbertModel": {**TINY, "embedding_size": 16},
    "BartForConditionalGeneration": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1},
    "BertForMaskedLM": TINY,
    "CLIPModel": {"text_config": TINY, "vision_config": {**TINY, "image_size": 32, "patch_size": 16}},
    "DistilBertModel": {"dim": 32, "hidden_dim": 32, "n_layers": 1, "n_heads": 2},
    "FalconForCausalLM": TINY,
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 1, "n_head": 2},
    "Gemma2ForCausalLM": {**TINY, "num_key_value_heads": 1, "head_dim": 16},
    "LlamaForCausalLM": {**TINY, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
    "MambaForCausalLM": {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4},
    "MixtralForCausalLM": {**TINY, "num_key_value_heads": 1, "num_local_experts": 2},
    "MPNetModel": TINY,
    "OPTForCausalLM": {**TINY, "ffn_dim": 32, "word_embed_proj_dim": 32},
    "Phi3ForCausalLM": {**TINY, "num_key_value_heads": 2, "pad_token_id": 0},
    "Qwen2ForCausalLM": {**TINY, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "RobertaModel": TINY,
    "SwinModel": {"embed_dim": 32, "depths": [1], "num_heads": [2], "image_size": 32, "window_size": 4},
    "T5ForConditionalGeneration": {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
    "ViTModel": {**TINY, "image_size": 32},
    "WhisperModel": {"d_model": 36, "encoder_layers": 1, "decoder_layers": 1},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["f32", "f16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_module_is_what_transformers_makes(load: Load, tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    cls = getattr(transformers, name)
    torch.manual_seed(1)
    written = cls(cls.config_class(**ARCHITECTURES[name])).to(dtype)
    for parameter in written.parameters():
        torch.nn.init.normal_(parameter)  # also those that a fresh model has at 0 or 1
    folder = saved(written, tmp_path / "m")
    ours, report = load(cls, folder)
    theirs = cls.from_pretrained(folder)
    copies = ".experts.", ".wo."  # merged experts; what always has 32 bits
    assert all(any(part in copied for part in copies) for copied in report.copied)
    for kind in ("named_parameters", "named_buffers"):
        one, other = dict(getattr(ours, kind)()), dict(getattr(theirs, kind)())
        assert list(one) == list(other)
        for tensor in one:
            assert (one[tensor].dtype, one[tensor].requires_grad) == (other[tensor].dtype, other[tensor].requires_grad)
            assert torch.equal(one[tensor], other[tensor]), tensor
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    assert not any(module.training for module in ours.modules())
    assert ours.config.to_diff_dict() == theirs.config.to_diff_dict()
    assert ours.config._attn_implementation == theirs.config._attn_implementation
    if ours.can_generate():
        assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()


@pytest.mark.parametrize("make", [llama, bert])
def test_tensorizer_files(load: Load, tmp_path: Path, make: Callable[[], Any]) -> None:
    written = make()
    folder = saved(written, tmp_path / "m")
    save_file(written, tmp_path / "m.tensors")
    module, report = load(type(written), tmp_path / "m.tensors", config=folder)
    assert_same(module, written)
    # A tied bias lies there twice, so that transformers loads it, and pads it, by nothing.
    assert set(report.copied) <= {"cls.predictions.bias"}


def test_names_with_and_without_the_base_models_prefix(load: Load, tmp_path: Path) -> None:
    whole = bert()
    bare = saved(whole.bert, tmp_path / "bare")
    module, report = load(transformers.BertForSequenceClassification, bare, strict=False)
    assert set(report.missing) == {"classifier.weight", "classifier.bias"}
    assert report.copied == {}
    assert torch.equal(module.bert(IDS)[0], whole.bert(IDS)[0])
    module, report = load(transformers.BertModel, saved(whole, tmp_path / "whole"), strict=False)
    assert all(name.startswith("cls.") for name in report.unexpected)
    assert report.copied == {}
    assert_same(module, whole.bert)


def test_what_does_not_fit_is_named(load: Load, tmp_path: Path) -> None:
    whole = bert()
    bare, folder = saved(whole.bert, tmp_path / "bare"), saved(whole, tmp_path / "whole")
    with pytest.raises(weightd.InvalidRequestError, match=r"Classification has, .* has not: 'classifier\.bias'"):
        load(transformers.BertForSequenceClassification, bare)
    with pytest.raises(weightd.InvalidRequestError, match=r"BertModel has not: 'cls\.pred"):
        load(transformers.BertModel, folder)
    other = transformers.BertConfig(**{**SMALL, "vocab_size": 50})
    for strict in (True, False):
        with pytest.raises(weightd.InvalidRequestError, match=r"word_embeddings\.weight \[100, 32\] here, \[50, 32\]"):
            load(transformers.BertForPreTraining, folder, config=other, strict=strict)
    with pytest.raises(weightd.InvalidRequestError, match="AutoModelForCausalLM has no class for ViTConfig"):
        load(transformers.AutoModelForCausalLM, folder, config=transformers.ViTConfig())


def test_merged_experts_are_reported(load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written = mixtral()
    folder = saved(written, tmp_path / "moe")
    with caplog.at_level(logging.WARNING, "weightd.transformers"):
        module, report = load(transformers.AutoModelForCausalLM, folder)
    assert_same(module, written)
    experts = {name: p.nbytes for name, p in written.named_parameters() if ".experts." in name}
    assert report.copied == experts
    assert f"{sum(experts.values())} bytes of {len(experts)} tensors were copied" in caplog.text
    # In the layout that the module has, nothing is.
    save_file(written, tmp_path / "module.safetensors")
    module, report = load(transformers.AutoModelForCausalLM, tmp_path / "module.safetensors", config=folder)
    assert report.copied == {}
    assert_same(module, written)


def test_another_dtype_is_a_copy(load: Load, tmp_path: Path) -> None:
    folder = saved(llama(), tmp_path / "llama")
    module, report = load(transformers.LlamaForCausalLM, folder, dtype=torch.float32)
    assert module.dtype == torch.float32
    assert report.copied_bytes == sum(parameter.nbytes for parameter in module.parameters())


def test_options_change_the_config(load: Load, tmp_path: Path) -> None:
    folder = saved(llama(), tmp_path / "llama")
    transformers.GenerationConfig(max_new_tokens=7).save_pretrained(folder)
    module, _ = load(transformers.AutoModelForCausalLM, folder, attn_implementation="eager", output_attentions=True)
    assert module.generation_config.max_new_tokens == 7
    assert module.config._attn_implementation == "eager"
    assert module.config.output_attentions


@pytest.mark.parametrize(
    "option",
    [{"device_map": "auto"}, {"quantization_config": {"bits": 8}}, {"trust_remote_code": True}, {"tp_size": 2}],
)
def test_what_can_not_work_is_refused(load: Load, tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(weightd.InvalidRequestError, match=next(iter(option))) as caught:
        load(transformers.AutoModel, tmp_path, **option)
    assert caught.value.hint


def test_a_refused_token_is_not_told(load: Load, tmp_path: Path) -> None:
    with pytest.raises(weightd.InvalidRequestError, match="token") as caught:
        load(transformers.AutoModel, tmp_path, token="hf_secret")
    assert "hf_secret" not in f"{caught.value!r} {caught.value}"


# Programs that ran with transformers' own loader say these, as it has them by default.
BY_DEFAULT = {"trust_remote_code": False, "token": None, "device_map": None, "ignore_mismatched_sizes": False}


def test_options_that_ask_for_nothing_are_no_matter(load: Load, daemon: Daemon, tmp_path: Path) -> None:
    written = llama()
    folder = saved(written, tmp_path / "llama")
    for options in (BY_DEFAULT, {"local_files_only": True}):
        for given in ({}, {"config": folder}, {"dtype": torch.float32}):
            module, report = load(transformers.AutoModelForCausalLM, folder, **options, **given)
            assert bool(report.copied) == ("dtype" in given)
            assert module.dtype == given.get("dtype", torch.bfloat16)
    with pytest.raises(weightd.ModelFileNotFoundError, match="no tokenizer"):
        weightd.transformers.tokenizer(
            str(folder), socket_dir=daemon.socket_dir, trust_remote_code=False, local_files_only=True
        )


def test_quantized_models_are_refused(load: Load, tmp_path: Path) -> None:
    written = llama()
    folder = saved(written, tmp_path / "llama")
    written.config.quantization_config = {"quant_method": "fp8"}
    with pytest.raises(weightd.InvalidRequestError, match="quantized"):
        load(transformers.LlamaForCausalLM, folder, config=written.config)


def test_the_config_is_read_by_the_class(load: Load, tmp_path: Path) -> None:
    """As in transformers: a part of a model has a part of its config, and a class of one's own its own."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    settings = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 100}, vision_config={**sizes, "image_size": 16, "patch_size": 8}
    )
    folder = saved(transformers.CLIPModel(settings), tmp_path / "clip")
    module, report = load(transformers.CLIPTextModel, folder, strict=False)
    assert isinstance(module.config, transformers.CLIPTextConfig)
    assert (report.copied, report.missing) == ({}, ())
    own = saved(Own(OwnConfig(width=8)), tmp_path / "own")
    module, _ = load(Own, own)
    assert module.linear.weight.shape == (8, 8)


def test_what_is_no_class_of_models_is_refused(load: Load, tmp_path: Path) -> None:
    for cls in (torch.nn.Linear, "AutoModel"):
        with pytest.raises(weightd.InvalidRequestError, match="is no class of transformers' models"):
            load(cls, tmp_path)


def test_an_attached_model_serves_several(daemon: Daemon, tmp_path: Path) -> None:
    written = llama()
    folder = saved(written, tmp_path / "llama")
    with weightd.attach(str(folder), socket_dir=daemon.socket_dir) as m:
        one, two = (weightd.transformers.from_pretrained(type(written), m) for _ in range(2))
    assert one.lm_head.weight.data_ptr() == two.lm_head.weight.data_ptr()
    assert_same(one, written)


def test_a_lone_file_has_no_config_and_no_tokenizer(daemon: Daemon, tmp_path: Path) -> None:
    file = str(saved(llama(), tmp_path / "llama") / "model.safetensors")
    with pytest.raises(weightd.ModelFileNotFoundError, match=r"no config\.json.*config=") as caught:
        weightd.transformers.from_pretrained(transformers.AutoModel, file, socket_dir=daemon.socket_dir)
    assert caught.value.model == f"file://{file}"
    with pytest.raises(weightd.ModelFileNotFoundError, match="no tokenizer"):
        weightd.transformers.tokenizer(file, socket_dir=daemon.socket_dir)
    with pytest.raises(weightd.InvalidRequestError, match="trust_remote_code"):
        weightd.transformers.tokenizer(file, socket_dir=daemon.socket_dir, trust_remote_code=True)


# Contents of files that no tokenizer can be made of.
BROKEN = {
    "tokenizer.json": ["{", "[]", "\xff", "{}"],
    "tokenizer_config.json": ["{", "null", "[" * 100_000, '{"tokenizer_class": 3}'],
    "config.json": ["{", "[]"],
    "added_tokens.json": ["{"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BROKEN.items() for text in texts])
def test_a_broken_tokenizer_is_told(daemon: Daemon, tmp_path: Path, name: str, text: str) -> None:
    folder = saved(bert(), tmp_path / "bert")
    transformers.BertTokenizerFast(vocab={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}).save_pretrained(folder)
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(weightd.Error, match=name.replace(".", "[.]")) as caught:
        weightd.transformers.tokenizer(f"{folder}/", socket_dir=daemon.socket_dir)
    assert caught.value.model == f"file://{folder}/"
    assert caught.value.hint
    assert caught.value.__cause__ is not None
    well_formed = text.startswith("{") and text.endswith("}")
    assert caught.value.reason == ("INVALID_ARGUMENT" if well_formed else "MALFORMED_MODEL")
    assert "weightd-" not in caught.value.message


@pytest.mark.parametrize(("text", "reason"), [("{", "MALFORMED_MODEL"), ('{"model_type": 3}', "INVALID_ARGUMENT")])
def test_a_broken_config_is_told(load: Load, tmp_path: Path, text: str, reason: str) -> None:
    folder = saved(llama(), tmp_path / "llama")
    (folder / "config.json").write_text(text)
    with pytest.raises(weightd.Error, match="config") as caught:
        load(transformers.AutoModelForCausalLM, folder)
    assert (caught.value.reason, caught.value.model) == (reason, f"file://{folder}")
    assert caught.value.__cause__ is not None


def test_code_in_a_config_does_not_run(load: Load, tmp_path: Path) -> None:
    folder = saved(llama(), tmp_path / "llama")
    settings = json.loads((folder / "config.json").read_text())
    del settings["model_type"]
    settings["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(weightd.InvalidRequestError, match=r"custom code.*config="):
        load(transformers.AutoModelForCausalLM, folder)


def test_code_of_a_hub_in_a_config_is_refused(load: Load, tmp_path: Path) -> None:
    folder = saved(llama(), tmp_path / "llama")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "attn_implementation": "somebody/kernel"}))
    with pytest.raises(weightd.InvalidRequestError, match="names code of a hub: 'somebody/kernel'"):
        load(transformers.AutoModelForCausalLM, folder)
    load(transformers.AutoModelForCausalLM, folder, attn_implementation="sdpa")


# On a GPU.


def test_on_a_gpu_only_buffers_move(gpu_model: GpuModel, monkeypatch: pytest.MonkeyPatch) -> None:
    written = llama()
    written.config.dtype = torch.bfloat16
    m = gpu_model({name: tensor for name, tensor in written.state_dict().items() if name != "lm_head.weight"})
    ours = {m[name].data_ptr() for name in m}
    with monkeypatch.context() as patch:
        moves = Moves(patch)
        module, report = weightd.transformers.from_pretrained(
            transformers.AutoModelForCausalLM, m, config=written.config, output_loading_info=True
        )
    assert report.copied == {}
    assert not ours & {place for _, place in moves.seen}
    assert {verb for verb, _ in moves.to_gpu} == {"to"}
    assert {place for _, place in moves.to_gpu} == {buffer.data_ptr() for buffer in module.buffers()}
    for name, parameter in module.named_parameters():
        assert parameter.data_ptr() == m[name].data_ptr(), name
    assert module.lm_head.weight is module.model.embed_tokens.weight
    assert_same(module, written)


def test_on_a_gpu_what_is_converted_goes_through_the_host(
    gpu_model: GpuModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    written = mixtral()
    folder = saved(written, tmp_path / "m")
    m = gpu_model(load_file(folder / "model.safetensors"))
    with monkeypatch.context() as patch:
        Moves(patch)
        module, report = weightd.transformers.from_pretrained(type(written), m, config=folder, output_loading_info=True)
    assert_same(module, written)
    parameters = dict(module.named_parameters())
    ours = {m[name].data_ptr() for name in m}
    assert report.copied == {name: p.nbytes for name, p in parameters.items() if p.data_ptr() not in ours}
    assert 0 < len(report.copied) < len(parameters) / 2
    assert not any(parameter.is_meta for parameter in parameters.values())
