"""What the tests of the page share: a lab with two short runs, and a way to ask the application."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aelab.lab import Lab

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from aelab.ui import server  # needs what may be missing

FILE = """
matrix:
  code: [2, 4]
experiment_name: page/${matrix_slug}
train_set: kali_dataset((1, 8, 8), size=64, seed=1)
validation_set: kali_dataset((1, 8, 8), size=24, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=code), DecoderMLP((1, 8, 8), code_size=code))
batch_size: 16
learnrate: 0.01
optimizer: Adam
max_images: 256
num_inputs_between_validations: 128
num_train_loss_steps: 64
"""


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with two finished runs; tests that write copy it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.yml").write_text(FILE)
    (folder / "secret.txt").write_text("hunter2")
    here = Lab(folder / "runs", device="cpu")
    for _ in here.run(folder / "page.yml"):
        pass
    return here


@pytest.fixture(scope="session")
def app(here: Lab) -> Any:
    """The application over `here`."""
    return server.make_app(here)


@pytest.fixture
def own(here: Lab, tmp_path: Path) -> Lab:
    """A copy of `here`, to write into."""
    shutil.copytree(here.workspace.runs, tmp_path / "runs")
    return Lab(tmp_path / "runs", device="cpu")


class Served:
    """An application served from a thread of this process."""

    def __init__(self, app: Any) -> None:
        import uvicorn

        config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
        self._server, self._socket = uvicorn.Server(config), config.bind_socket()
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def end(self) -> None:
        """Ends the server."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)
        self._socket.close()


@pytest.fixture
def served() -> Iterator[Any]:
    """Serves applications until the test ends."""
    every: list[Served] = []

    def serve(app: Any) -> str:
        every.append(Served(app))
        return every[-1].address

    yield serve
    for each in every:
        each.end()
