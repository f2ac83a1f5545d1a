"""Names of the documents' program are read with every file, so that they must be light."""

from __future__ import annotations

import subprocess
import sys

from aelab.founding.names import PROGRAM
from aelab.settings import LEGACY_OPTIONS


def test_the_key_legacy_has_an_option_for_each_old_number() -> None:
    assert set(PROGRAM.old_numbers) == set(LEGACY_OPTIONS)


def test_the_names_of_the_old_program_load_no_torch() -> None:
    code = (
        "import sys; from aelab.config.old_programs import find_trainer, known_names\n"
        "assert find_trainer('src.train.TrainAutoencoder').legacy == {'kl', 'validation'}\n"
        "assert known_names('src.models.encoder.resnet') == ('resnet18_open',)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
