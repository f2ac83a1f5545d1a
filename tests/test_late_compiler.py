"""torch's compiler and its algebra are imported when they are used, and work then as always."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

START = """
import sys
from aelab.late_compiler import postpone_compiler
postpone_compiler()
postpone_compiler()
import torch
from torch import nn

def step():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    image = torch.ones(2, 3, 8, 8, device="meta")
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5)
    net = nn.Sequential(*layers)
    assert (net.to("meta")(image) + image[0, 0, 0, :5]).shape == (2, 5)

step()
for name in ("torch._dynamo.utils", "sympy.core"):
    assert name not in sys.modules, f"{name} is imported without need"
"""


def _python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START + program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_step_of_an_optimizer_does_not_import_the_compiler_and_compiling_does() -> None:
    program = """
called = []
def backend(graph, inputs):
    called.append(graph)
    return graph.forward

@torch.compile(backend=backend)
def double(x):
    return 2 * x + 1

assert torch.equal(double(torch.ones(3)), torch.full((3,), 3.0))
assert called and "torch._dynamo.utils" in sys.modules
asked = torch.optim.Optimizer.add_param_group.__wrapped__
assert not hasattr(asked, "__dynamo_disable"), "torch must ask the real compiler again"
step()
assert asked.__dynamo_disable is not asked, "the real answer"
print(type(sys.modules["torch._dynamo"]).__name__, torch._dynamo is sys.modules["torch._dynamo"])
"""
    assert _python(program) == "module True"


def test_a_module_of_the_compiler_is_imported_once() -> None:
    program = """
import torch._dynamo.utils as found
import torch._dynamo
assert torch._dynamo.utils is found is sys.modules["torch._dynamo.utils"]
torch._dynamo.reset()
print(found.__spec__.origin is not None)
"""
    assert _python(program) == "True"


def test_sizes_that_are_symbols_are_computed_with_as_always() -> None:
    program = """
from torch.fx.experimental.symbolic_shapes import guard_or_false, sym_and
sizes = []
def backend(graph, inputs):
    sizes.append(next(one for one in inputs if isinstance(one, torch.SymInt)))
    return graph.forward

@torch.compile(backend=backend, dynamic=True)
def rows(x):
    return x.reshape(x.shape[0] // 2, -1) + 1

for count in (4, 6, 10):
    assert rows(torch.zeros(count, 3)).shape == (count // 2, 6)
(size,) = sizes
assert guard_or_false(sym_and(size > 1, size > 0)) and not guard_or_false(size == 1)
print("sympy.core" in sys.modules)
"""
    assert _python(program) == "True"


def test_the_answers_for_plain_numbers_are_those_of_torch() -> None:
    program = """
from aelab.late_compiler import _ANSWERS, _StandIn
asked = sys.modules["torch.fx.experimental.symbolic_shapes"]
assert isinstance(asked, _StandIn)
truths, same = (True, False), [(3, 3), (3, 4), ((1, 2), [1, 2]), ((1, 2), (1, 3)), ((1,), (1, 2))]
cases = {name: [(each,) for each in truths] for name in _ANSWERS}
cases |= {name: [(a, b) for a in truths for b in truths] for name in ("sym_and", "sym_or")}
cases |= {name: [(3,), (0,)] for name, (_, is_plain) in _ANSWERS.items() if is_plain(3)}
cases["sym_eq"] = same
given = {name: [getattr(asked, name)(*each) for each in found] for name, found in cases.items()}
assert "sympy.core" not in sys.modules
asked.ShapeEnv
real = sys.modules["torch.fx.experimental.symbolic_shapes"]
assert real is not asked and "sympy.core" in sys.modules
true = {name: [getattr(real, name)(*each) for each in found] for name, found in cases.items()}
assert given == true, (given, true)
try:
    asked.expect_true(1)
except AssertionError as error:
    print(error)
"""
    assert _python(program) == "Expected bool, got 1"


def test_a_caller_gets_the_whole_algebra() -> None:
    program = """
import sympy
asked = sympy
class Own(sympy.Basic):
    pass
x = sympy.Symbol("x")
assert isinstance(x, sympy.Basic) and isinstance(Own(), asked.Basic)
import sympy.core.numbers as numbers
assert sys.modules["sympy.core.numbers"] is numbers and numbers.pi is sympy.pi
step()
print(sympy.simplify(x + x))
"""
    assert _python(program) == "2*x"


def test_a_compiler_that_is_imported_already_stays() -> None:
    program = """
torch._dynamo.config
before = list(sys.meta_path)
postpone_compiler()
print(sys.meta_path == before)
"""
    assert _python(program) == "True"


def test_a_whole_run_of_the_command_does_without_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "tiny.yml").write_text(
        "experiment_name: tiny\n"
        "train_set: noise_dataset((1, 8, 8), size=64, seed=1)\n"
        "validation_set: noise_dataset((1, 8, 8), size=16, seed=2)\n"
        "model: EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))\n"
        "batch_size: 16\nlearnrate: 0.001\noptimizer: Adam\nmax_images: 32\n",
        encoding="utf-8",
    )
    program = (
        "import sys\n"
        "from aelab.cli.main import main\n"
        "sys.argv = ['aelab', 'run', 'tiny.yml', '--jobs', '1', '--quiet']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' in sys.modules\n"
        "assert not {'torch._dynamo.utils', 'sympy.core'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "tiny" / "run.json").is_file()
