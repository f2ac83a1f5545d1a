"""Own losses, functions and classes of a file: their mistakes are told, and end their run only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str, str]]

FILE = """\
experiment_name: own/${matrix_slug}
matrix:
  kind: [bad, good]
train_set: noise_dataset((1, 8, 8), size=40, seed=1)
batch_size: 10
learnrate: 0.001
optimizer: Adam
max_inputs: 20
"""
MODEL = "EncoderDecoder(EncoderMLP((1, 8, 8), code_size=2), DecoderMLP((1, 8, 8), code_size=2))"
CLASS = """\
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
    def forward(self, images):
        return BODY
Own()
"""


def block(key: str, *lines: str) -> str:
    return f"{key}: |\n" + "".join(f"  {line}\n" for text in lines for line in text.splitlines())


def written(loss: str = "", model: str = MODEL) -> str:
    """The file with a loss and a model; line 9 is the key of the model, 10 its first line."""
    return (
        FILE + block("model", model) + (block("loss_function", *loss.splitlines()) if loss else "")
    )


UNCALLED = {
    "model": "EncoderMLP",
    "train_set": "noise_dataset",
    "loss_function": "nn.L1Loss",
    "perceptual_model": "nn.Flatten",
}


@pytest.mark.parametrize("key", UNCALLED)
def test_a_part_that_is_not_called_is_told(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aelab: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = [line for line in written().splitlines() if not line.startswith(f"{key}:")]
    text = "\n".join(kept if key != "model" else kept[:-1])
    Path("f.yml").write_text(f"{text}\n{key}: {UNCALLED[key]}\n")
    code, out, err = aelab("check", "f.yml")
    assert code == 2, out + err
    assert f"{key}: '{UNCALLED[key]}' is not called" in out + err
    assert f"{UNCALLED[key]}(...)" in out + err


LOSSES_IN_A_LINE = {
    "lambda a, b: a - b": (0, ""),
    "F.l1_loss": (0, ""),
    "lambda a, b: 3.0": (2, "must return one value, or one per image"),
    "lambda a, b: 1 / 0": (2, "division by zero"),
    "lambda a, b: torch.fft.fft2(a - b).mean()": (2, "complex numbers"),
    "F.l1_los": (2, "did you mean 'l1_loss'?"),
}


@pytest.mark.parametrize("loss", LOSSES_IN_A_LINE)
def test_a_loss_in_one_line_is_python_too(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aelab: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.yml").write_text(f"{written()}loss_function: '{loss}'\n")
    code, out, err = aelab("check", "f.yml")
    wanted, words = LOSSES_IN_A_LINE[loss]
    assert code == wanted and words in out + err, out + err
    assert "unknown loss" not in out + err


def test_a_perceptual_model_that_does_not_fit_is_told_at_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aelab: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.yml").write_text(f"{written()}perceptual_model: nn.Linear(3, 3)\n")
    code, out, err = aelab("check", "f.yml")
    assert code == 2 and "f.yml:11:1: perceptual_model: " in out + err


#: What `compile` refuses although it can be parsed, and what a block may not be.
NO_PYTHON = {
    "return": (f"m = {MODEL}\nreturn m", "without return"),
    "return inside": (f"with torch.no_grad():\n    return 1\n{MODEL}", "without return"),
    "argument twice": (MODEL.replace("code_size=2", "code_size=2, code_size=3"), "repeated"),
    "break": (f"break\n{MODEL}", "'break' outside loop"),
    "continue": (f"if True:\n    continue\n{MODEL}", "'continue'"),
    "def f(x, x)": (f"def f(x, x):\n    return x\n{MODEL}", "duplicate argument"),
    "lambda x, x": (f"f = lambda x, x: x\n{MODEL}", "duplicate argument"),
    "two stars": (f"*a, *b = [1, 2]\n{MODEL}", "starred"),
    "async comprehension": (f"[x async for x in y]\n{MODEL}", "asynchronous"),
    "nonlocal": (f"nonlocal x\n{MODEL}", "nonlocal"),
    "yield": (f"yield 3\n{MODEL}", "yield"),
    "await": (f"await x\n{MODEL}", "await"),
    "walrus": (f"[y := 1 for z in [1]]\n{MODEL}", ":="),
    "very deep": ("-" * 3000 + f"1\n{MODEL}", "recursion"),
    "long chain": ("x" + ".a" * 2000 + f"\n{MODEL}", "nested too deeply"),
    "delete a call": (f"del f(x)\n{MODEL}", "cannot delete"),
}


@pytest.mark.parametrize("name", NO_PYTHON)
def test_what_python_refuses_is_told_with_its_line(name: str, tiny: Path, aelab: Call) -> None:
    text, words = NO_PYTHON[name]
    tiny.write_text(written(model=text))
    code, out, err = aelab("check", "tiny.yml")
    assert (code, out) == (2, "")
    assert "tiny.yml:1" in err and "model: " in err and words in err, err
    if name != "walrus":  # with --trust that one is Python
        code, out, err = aelab("run", "tiny.yml", "--trust")
        assert (code, out) == (2, "") and "tiny.yml:1" in err, err


#: Losses that cannot be trained with: text, line and column of what is told, words of the message.
BAD_LOSSES = {
    "unknown name": ("lambda a, b: noise_datase(a)", "12:16", "did you mean 'noise_dataset'"),
    "arity": ("lambda a: a", "11:1", "takes 1 positional argument but 2 were given"),
    "shape": ("lambda a, b: (a - torch.ones(3, 5)).abs().mean()", "12:17", "5"),
    "a float": ("lambda a, b: 1.0", "11:1", "not float"),
    "None": ("lambda a, b: None", "11:1", "not NoneType"),
    "a tuple": ("lambda a, b: ((a - b).mean(), 1)", "11:1", "not tuple"),
    "an image": ("lambda a, b: (a - b).mean(0)", "11:1", "not (1, 8, 8)"),
    "item at the end": ("lambda a, b: (a - b).abs().mean().item()", "11:1", "not float"),
    "float at the end": ("lambda a, b: float((a - b).abs().mean())", "11:1", "not float"),
    "no gradient": ("lambda a, b: (a - b).abs().mean().detach()", "11:1", "no gradient"),
    "counts": ("lambda a, b: ((a - b) > 0.1).sum()", "11:1", "no gradient"),
    "division": ("lambda a, b: 1 / 0", "12:16", "ZeroDivisionError: division by zero"),
    "endless": ("def f(a, b):\n    return f(a, b)\nf", "13:", "RecursionError"),
    "assertion": ("def f(a, b):\n    assert a.ndim == 3, 'flat'\n    return a\nf", "13:", "flat"),
    "a layer": ("nn.Linear(3, 4)", "11:1", "2 positional arguments but 3"),
    "a number": ("3 + 4", "11:1", "a name or a function, not 7"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LOSSES)
def test_a_wrong_loss_is_told_with_the_users_line_and_ends_its_own_run_only(
    name: str, tiny: Path, aelab: Call
) -> None:
    text, _, words = BAD_LOSSES[name]
    *before, last = text.splitlines()
    both = f'{{"good": lambda a, b: (a - b).abs().mean(), "bad":\n {last}}}[kind]'
    tiny.write_text(written("\n".join([*before, both])))
    code, out, err = aelab("check", "tiny.yml")
    assert code == 2 and "2 runs, 1 with problems" in out and words in out, out + err
    assert out.count("problem: ") == 1 and "loss_function: " in out and "tiny.yml:1" in out
    code, out, err = aelab("run", "tiny.yml", "--quiet")
    assert code == 1 and "1 finished, 0 skipped, 1 failed" in out + err, out + err
    assert "tiny.yml:1" in err and words in err and "Traceback" not in out + err, err


@pytest.mark.parametrize("name", ["unknown name", "a layer", "a float"])
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_loss_that_is_wrong_in_every_run_is_told_before_training(
    name: str, verb: str, tiny: Path, aelab: Call
) -> None:
    text, place, words = BAD_LOSSES[name]
    tiny.write_text(written(text))
    code, out, err = aelab(verb, "tiny.yml")
    assert code == 2 and f"tiny.yml:{place}" in out + err and words in out + err, out + err
    assert not (tiny.parent / "runs").exists()


#: Losses that need values or make tensors; each can be trained with.
GOOD_LOSSES = {
    "item": "lambda a, b: (a - b).abs().mean() * (1.0 if a.sum().item() > 0 else 2.0)",
    "if": "def f(a, b):\n    d = (a - b).abs().mean()\n    if d > 0.1:\n        return d * 2\n    return d\nf",  # noqa: E501
    "print": "def f(a, b):\n    print(a.mean())\n    return (a - b).abs().mean()\nf",
    "random tensor": "lambda a, b: ((a - b).flatten(1) @ torch.randn(64, 3)).abs().mean()",
    "identity matrix": "lambda a, b: ((a - b).flatten(1) @ torch.eye(64)).abs().mean()",
    "constant": "w = torch.randn(64, 3)\nlambda a, b: ((a - b).flatten(1) @ w).abs().mean()",
    "like": "lambda a, b: (a - b + 0.01 * torch.randn_like(b)).abs().mean()",
    "max": "lambda a, b: (a - b).abs().mean() / max(1.0, float(b.max()))",
    "nonzero": "lambda a, b: (a - b)[b > 0.5].abs().mean()",
}


@pytest.mark.parametrize("name", GOOD_LOSSES)
def test_a_right_loss_passes_check_and_trains(name: str, tiny: Path, aelab: Call) -> None:
    tiny.write_text(written(GOOD_LOSSES[name]))
    for verb in ("check", "run"):
        code, out, err = aelab(verb, "tiny.yml", "--only", "*good")
        assert code == 0, out + err


#: Models that cannot be trained: text, place, words.
BAD_MODELS = {
    "sequence as bottleneck": (
        "Autoencoder(nn.Flatten(), nn.Sequential(nn.Identity(), nn.Identity()), nn.Flatten())",
        "10:3", "cannot be called with (features, noise)",
    ),
    "unknown name in forward": (CLASS.replace("BODY", "nosuch(images)"), "15:", "'nosuch'"),
    "wrong forward": (CLASS.replace("(self, images)", "(self)"), "10:3", "positional argument"),
    "returns nothing": (CLASS.replace("BODY", "None"), "10:3", "must return a tensor"),
    "unknown name in an activation": (
        MODEL.replace("code_size=2)", "code_size=2, act_fn=lambda x: nosuch(x))", 1),
        "10:", "'nosuch'",
    ),
    "ends the program": (f"exit()\n{MODEL}", "10:3", "must not end the program"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_wrong_model_is_told_with_the_users_line(
    name: str, verb: str, tiny: Path, aelab: Call
) -> None:
    text, place, words = BAD_MODELS[name]
    tiny.write_text(written(model=text))
    code, out, err = aelab(verb, "tiny.yml", "--trust")
    assert code == 2 and f"tiny.yml:{place}" in out + err and words in out + err, out + err
    assert "Traceback" not in out + err


def test_a_model_that_needs_values_trains(tiny: Path, aelab: Call) -> None:
    tiny.write_text(
        written(model=CLASS.replace("BODY", "self.layer(images) * images.sum().item()"))
    )
    assert aelab("check", "tiny.yml", "--trust")[0] == 0
    assert aelab("run", "tiny.yml", "--trust")[0] == 0


def test_a_module_of_the_user_is_named_with_its_line(tiny: Path, aelab: Call) -> None:
    own = "import torch.nn as nn\n\n" + CLASS.replace("BODY", "images.no_such_thing()")
    (tiny.parent / "ownmodel_here.py").write_text(own.replace("Own()\n", ""))
    tiny.write_text(written(model="from ownmodel_here import Own\nOwn()"))
    _, out, _ = aelab("check", "tiny.yml", "--trust")
    assert "tiny.yml:10" in out and "ownmodel_here.py, line 8" in out, out


#: Odd values of plain keys: line of the file, what replaces it, words of the message.
ODD = {
    "hexadecimal of 200 digits": ("batch_size: 10", f"batch_size: 0x{'F' * 200}", "batch_size"),
    "5,000 digits": ("batch_size: 10", f"batch_size: {'9' * 5000}", "batch_size"),
    "10**400": ("max_inputs: 20", f"max_inputs: 1{'0' * 400}", "max_inputs"),
    "10**5000 as Python": ("max_inputs: 20", "max_inputs: |\n  10**5000", "3,000 digits"),
    "rate of 400 digits": ("learnrate: 0.001", f"learnrate: {'9' * 400}", "learnrate"),
    "trials": ("max_inputs: 20", "max_inputs: 20\ntrials: 100000000", "100000"),
    "trials times matrix": ("max_inputs: 20", "max_inputs: 20\ntrials: 60", "more than 100 runs"),
    "momentum": ("optimizer: Adam", f"optimizer: {{SGD: {{momentum: {'9' * 400}}}}}", "momentum"),
    "step size": ("max_inputs: 20", "max_inputs: 20\nscheduler: {StepLR: {step_size: 0}}", "Step"),
    "differentiable": ("optimizer: Adam", "optimizer: {Adam: {differentiable: true}}", "no effect"),
    "foreach": ("optimizer: Adam", "optimizer:\n  AdamW:\n    foreach: 3", "tiny.yml:9:5: "),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_odd_values_are_refused_with_key_and_line(
    name: str, verb: str, tiny: Path, aelab: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aelab.config.expand.MOST_RUNS", 100)  # many runs take time to count
    before, after, words = ODD[name]
    assert before in FILE
    tiny.write_text(written().replace(before, after))
    code, out, err = aelab(verb, "tiny.yml")
    assert code == 2 and words in out + err and "tiny.yml:" in out + err, out + err
    assert len(out + err) < 5000


def test_a_function_that_fails_in_a_stored_run_is_told_by_every_verb(
    tiny: Path, aelab: Call
) -> None:
    tiny.write_text(written() + "validation_set: noise_dataset((1, 8, 8), size=20, seed=2)\n")
    assert aelab("run", "tiny.yml", "--only", "*good")[0] == 0
    text = tiny.parent / "runs/own/kind-good/resolved.yml"
    late = "code_size=2, act_fn=lambda x: nosuch(x)"
    text.write_text(text.read_text().replace("code_size=2", late, 1))
    for words in (("evaluate", "own/kind-good"), ("figure", "reproductions", "own/kind-good")):
        _, out, err = aelab(*words)
        said = out + err
        assert "resolved.yml:" in said and "'nosuch' is neither" in said, said
        assert "fault in aelab" not in said
