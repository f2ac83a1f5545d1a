"""Attempts of a block to get out, by class: the data of `test_refusals`.

Each probe has an effect when the guard is off (`--trust`): it writes the file TARGET, it gives the
text of the file SECRET, or it gives something that no block should hold.
"""

from __future__ import annotations

from typing import NamedTuple


class Probe(NamedTuple):
    """One attempt.

    Attributes:
        kind: class of the attempt.
        text: the block; TARGET, SECRET and FOLDER are replaced by quoted paths.
        effect: "writes" (TARGET exists), "reads" (the value is the secret), or the kind of thing
            that the value is: "module", "type", "globals", "code", "true".
    """

    kind: str
    text: str
    effect: str


def _probes(kind: str, *pairs: tuple[str, str]) -> list[Probe]:
    return [Probe(kind, text, effect) for effect, text in pairs]


LINEAR = "m = nn.Linear(2, 2)\n"
TENSOR = "x = torch.zeros(3)\n"

PROBES: list[Probe] = [
    *_probes(
        "built-in functions",
        ("writes", "open(TARGET, 'w').write('x')"),
        ("reads", "open(SECRET).read()"),
        ("writes", "exec('open(' + repr(TARGET) + ', \"w\").write(\"x\")') or 1"),
        ("reads", "eval('open(' + repr(SECRET) + ').read()')"),
        ("writes", "print('x', file=open(TARGET, 'w')) or 1"),
        ("code", "compile('1', 'f', 'eval')"),
        ("type", "getattr(1, '__class__')"),
        ("type", "type(1)"),
        ("type", "type('New', (), {'a': 1})"),
        ("globals", "globals().copy()"),
        ("true", "'__builtins__' in vars() or '__builtins__' in locals()"),
        ("true", "setattr(nn.Linear, 'probed', 1) or nn.Linear.probed == 1"),
        ("true", "'__class__' in dir(1)"),
        ("true", "memoryview(b'x')[0] == 120"),
        ("type", "object"),
        ("reads", "next(iter(open(SECRET)))"),
    ),
    *_probes(
        "imports",
        ("module", "import os\nos"),
        ("writes", "from os import system\nsystem('echo x > ' + TARGET)"),
        ("writes", "import subprocess\nsubprocess.run(['touch', TARGET])"),
        ("reads", "from pathlib import Path\nPath(SECRET).read_text()"),
        ("module", "__import__('os')"),
        ("module", "import importlib\nimportlib.import_module('sys')"),
        ("writes", "from torch import save\nsave({'a': 1}, TARGET)\n1"),
        ("module", "import torch.serialization as s\ns"),
        ("module", "import math, sys\nsys"),
        ("true", "from torch.nn.functional import *\ncallable(has_torch_function)"),
        ("true", "def f():\n    import os\n    return os\nf().sep in '/'"),
    ),
    *_probes(
        "underscore attributes",
        ("true", "len(().__class__.__base__.__subclasses__()) > 100"),
        ("globals", "(lambda: 0).__globals__"),
        ("code", "(lambda: 0).__code__"),
        ("type", "nn.Linear(1, 1).__class__"),
        ("globals", "EncoderConv2d.__init__.__globals__"),
        ("reads", "EncoderConv2d.__init__.__builtins__['open'](SECRET).read()"),
        ("true", "math.__spec__.loader is not None"),
        ("type", "nn.Linear.__mro__[1]"),
        ("true", "nn.Linear(1, 1).__dict__['_modules'] == {}"),
        ("type", "'x'.__class__"),
        ("type", "'x'.__\uff43lass__"),  # a full-width c, which Python reads as c
        ("module", "__builtins__['__import__']('os') if type(__builtins__) is dict else "
         "__builtins__.__import__('os')"),
        ("true", "nn.Linear(1, 1)._parameters['bias'] is not None"),
    ),
    *_probes(
        "modules behind objects",
        ("module", "torch.os"),
        ("module", "torch.sys"),
        ("module", "nn.modules"),
        ("module", "nn.functional.torch"),
        ("module", "F.warnings"),
        ("module", "torch.utils"),
        ("module", "torch.random"),
        ("module", "nn.modules.linear.math"),
        ("module", "torch.functional.itertools"),
        ("module", "torch.backends"),
    ),
    *_probes(
        "files through torch",
        ("writes", "torch.save({'a': 1}, TARGET)\n1"),
        ("true", "torch.serialization.load(FOLDER + '/stored.pt', weights_only=False) == [1]"),
        ("writes", "torch.from_file(TARGET, shared=True, size=4, dtype=torch.uint8)"),
        ("writes", "torch.UntypedStorage.from_file(TARGET, True, 4)"),
        ("writes", "torch.hub.load(FOLDER, 'entry', source='local', verbose=False)"),
        ("writes", "torch.jit.save(torch.jit.trace(torch.relu, torch.zeros(1)), TARGET)\n1"),
        ("writes", "torch.serialization.save(1, TARGET)\n1"),
        ("writes", "torch.zeros(2).numpy().tofile(TARGET)\n1"),
        ("true", "callable(torch.ops.load_library)"),
        ("writes", "p = torch.export.export(nn.Linear(1, 1), (torch.zeros(1, 1),))\n"
         "torch.export.save(p, TARGET)\n1"),
    ),
    *_probes(
        "methods of modules",
        ("true", LINEAR + "seen = []\nm.apply(seen.append)\nseen[0] is m"),
        ("true", LINEAR + "m.register_forward_hook(lambda *a: 7)\nm(torch.ones(2)) == 7"),
        ("true", LINEAR + "m.load_state_dict(m.state_dict()) is not None"),
        ("true", LINEAR + "callable(m.register_buffer)"),
        ("true", LINEAR + "callable(m.register_full_backward_hook)"),
        ("true", LINEAR + "m.add_module('extra', nn.ReLU())\nisinstance(m.extra, nn.ReLU)"),
        ("true", LINEAR + "m.get_submodule('') is m"),
        ("true", LINEAR + "callable(m.forward.__func__)"),
        ("true", LINEAR + "m.register_parameter('p', None)\nm.p is None"),
        ("true", LINEAR + "m.share_memory() is m"),
        ("true", LINEAR + "callable(m.compile)"),
        ("true", LINEAR + "m.extra_repr().count('in_features') == 1"),
    ),
    *_probes(
        "memory of tensors",
        ("true", TENSOR + "x.numpy().shape == (3,)"),
        ("true", TENSOR + "x.data_ptr() > 0"),
        ("true", TENSOR + "x.untyped_storage().nbytes() == 12"),
        ("true", TENSOR + "x.apply_(lambda v: v + 1)\nx.sum().item() == 3"),
        ("true", TENSOR + "x.map_(x, lambda a, b: a)\nTrue"),
        ("true", TENSOR + "x.data.fill_(7)\nx[0].item() == 7"),
        ("true", TENSOR + "x.requires_grad_().register_hook(lambda g: g) is not None"),
        ("true", TENSOR + "x.share_memory_() is x"),
        ("true", TENSOR + "x.set_(torch.ones(9))\nlen(x) == 9"),
        ("true", TENSOR + "x.storage_offset() == 0"),
        ("true", TENSOR + "x.resize_(1000)\nlen(x) == 1000"),
        ("true", TENSOR + "x[0] = 5\nx[0].item() == 5"),
    ),
    *_probes(
        "formatting",
        ("true", "'class' in '{0.__class__}'.format(1)"),
        ("true", "'class' in '{x.__class__}'.format_map({'x': 1})"),
        ("true", "'class' in str.format('{0.__class__}', 1)"),
        ("true", "'class' in f'{(1).__class__}'"),
        ("true", "x = '{0.__init__.__globals__[__builtins__][open]}'\n"
         "'built-in' in x.format(EncoderConv2d)"),
        ("true", "'int' in f'{type(1)}'"),
        ("true", "'class' in ''.join(map('{0.__class__}'.format, [1]))"),
        ("true", "format(255, 'x') == 'ff'"),
    ),
    *_probes(
        "frames and generators",
        ("globals", "g = (0 for _ in [1])\ng.gi_frame.f_globals"),
        ("code", "g = (0 for _ in [1])\ng.gi_code"),
        ("globals", "def f():\n    yield f.__globals__\nlist(f())[0]"),
        ("globals", "try:\n    1 / 0\nexcept Exception as e:\n"
         "    g = e.__traceback__.tb_frame.f_globals\ng"),
        ("globals", "async def f():\n    pass\nc = f()\ng = c.cr_frame.f_globals\nc.close()\ng"),
        ("true", "g = (x for x in [1])\ng.send(None) == 1"),
        ("true", "def f():\n    x = yield 1\ng = f()\nnext(g) == 1"),
    ),
    *_probes(
        "syntax",
        ("true", "class A:\n    pass\nisinstance(A, type)"),
        ("true", "class M(type):\n    pass\nclass B(metaclass=M):\n    pass\nisinstance(B, M)"),
        ("type", "match 1:\n    case object(__class__=c):\n        pass\nc"),
        ("reads", "with open(SECRET) as f:\n    s = f.read()\ns"),
        ("reads", "(o := open)(SECRET).read()"),
        ("true", "x = 0\nwhile x < 3:\n    x += 1\nx == 3"),
        ("true", "def f():\n    global y\n    y = 1\nf()\ny == 1"),
        ("true", "def g():\n    z = 0\n    def f():\n        nonlocal z\n        z = 1\n"
         "    f()\n    return z\ng() == 1"),
        ("reads", "def read(f):\n    return open(SECRET).read()\n@read\ndef f(): pass\nf"),
        ("true", "try:\n    raise ValueError()\nexcept ValueError as e:\n    a = e.args\na == ()"),
        ("true", "x: int\nTrue"),
        ("reads", "(lambda o=open: o(SECRET).read())()"),
        ("reads", "[o(SECRET).read() for o in [open]][0]"),
    ),
    *_probes(
        "writing attributes",
        ("true", "nn.Linear.probed = 1\nnn.Linear.probed == 1"),
        ("true", LINEAR + "m.forward = lambda x: 7\nm(0) == 7"),
        ("true", LINEAR + "for m.forward in [lambda x: 7]:\n    pass\nm(0) == 7"),
        ("true", LINEAR + "m.forward, a = (lambda x: 7), 1\nm(0) == 7"),
        ("true", LINEAR + "[m.forward] = [lambda x: 7]\nm(0) == 7"),
        ("true", LINEAR + "m.training += 1\nm.training == 2"),
        ("true", LINEAR + "del m.bias\nTrue"),
        ("true", LINEAR + "with torch.no_grad() as m.entered:\n    pass\nm.entered is None"),
        ("true", "[0 for math.probed in [1]]\nmath.probed == 1"),
        ("true", LINEAR + "m.requires_grad = 7\nm.requires_grad == 7"),
    ),
    *_probes(
        "names of the guards",
        ("true", "_getattr_ = getattr\n_getattr_((1), '__class__') is int"),
        ("true", "def _getattr_(a, b):\n    return 1\n_getattr_(1, 2) == 1"),
        ("true", "(lambda _write_: _write_)(1) == 1"),
        ("true", "[_write_ for _write_ in [1]][0] == 1"),
        ("true", "for _getitem_ in [1]:\n    pass\n_getitem_ == 1"),
        ("true", "from math import prod as _getattr_\n_getattr_([2]) == 2"),
        ("true", "_getiter_, a = 1, 2\n_getiter_ == 1"),
        ("true", "dict(_x=1)['_x'] == 1 and (lambda *_args: _args)(1) == (1,)"),
        ("true", "def f(**_k):\n    return _k\nf(a=1) == {'a': 1}"),
        ("true", "import math as __builtins__\n__builtins__.pi > 3"),
    ),
]  # fmt: skip
