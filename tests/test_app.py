"""The web page's server as a process, asked over HTTP by Gradio's own client."""
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

gradio_client = pytest.importorskip("gradio_client", reason="needs the extra `app`")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"import sys; from composer_classify.cli import main; sys.exit(main(['app', '--port', '{port}']))"
    server = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(120):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert server.poll() is None, "the server ended"
        time.sleep(0.5)
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def client(address):
    return gradio_client.Client(address, verbose=False)


def test_a_file_gets_its_answer(client):
    sentence, ranking, picture = client.predict(gradio_client.handle_file(ROOT / "tests/samples/bach_bwv772.mid"), api_name="/predict")
    assert "Bach" in sentence and ranking["label"] == "Bach"
    assert picture["plot"].startswith("data:image")


def test_a_bad_file_gets_a_sentence_and_no_path(client, tmp_path):
    (tmp_path / "diary.mid").write_text("Dear diary")
    sentence, ranking, picture = client.predict(gradio_client.handle_file(tmp_path / "diary.mid"), api_name="/predict")
    assert sentence == "### diary.mid: is not MIDI (it does not begin with 'MThd')"
    assert not ranking and picture is None
