"""torch's compiler is imported when something is compiled, and works then as always."""

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
    nn.functional.relu(torch.ones(2, 3, device="meta"))

step()
assert "torch._dynamo.utils" not in sys.modules, "imported without need"
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
        "assert 'torch' in sys.modules and 'torch._dynamo.utils' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "tiny" / "run.json").is_file()
