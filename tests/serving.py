"""The web page's server as a process of its own."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def served(temporary: Path, root: Path = ROOT, arguments: list[str] = ()) -> Iterator[tuple[str, int]]:
    "Address and process number of a server, of the package in a root, that has a folder for all it may want to write."
    import os

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from composer_classify.cli import main; sys.exit(main(['app', *sys.argv[1:]]))"
    command = [sys.executable, "-c", code, "--port", str(port), *arguments]
    log = open(temporary / "log", "w")
    folders = {"TMPDIR": str(temporary), "HOME": str(temporary)}
    server = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, env=os.environ | folders)
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (temporary / "log").read_text()
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        workers = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(server.pid)], capture_output=True, text=True
        ).stdout.split()
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise
        log.close()
        end = time.monotonic() + 10
        while alive := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < end, f"workers outlive the server: {alive}"
            time.sleep(0.1)
