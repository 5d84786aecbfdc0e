"""The web page's server as a process, asked over HTTP as programs and attackers would."""
import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs the extra `app`")
import httpx
from serving import ROOT, served

from composer_classify.app import LIMITS, WAITING

SAMPLES = ROOT / "composer_classify" / "samples"
FIELDS = ["file", "composer", "probability", "ranking", "known", "piece", "timeline", "error"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    temporary = tmp_path_factory.mktemp("server")
    with served(temporary) as (address, pid):
        yield address, pid, temporary


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server[0], timeout=60) as client:
        yield client


def ask(client, content: bytes, **params) -> httpx.Response:
    return client.post("/api/predict", params=params, content=content)


def test_an_answer_is_that_of_the_command_line(client):
    reply = ask(client, (SAMPLES / "bach_bwv772.mid").read_bytes(), name="bach_bwv772.mid")
    assert reply.status_code == 200 and list(reply.json()) == FIELDS
    code = "import sys; from composer_classify.cli import main; sys.exit(main(['predict', 'bach_bwv772.mid', '--json']))"
    printed, = json.loads(subprocess.run([sys.executable, "-c", code], cwd=SAMPLES, capture_output=True, text=True, check=True).stdout)
    near = lambda answer: json.loads(json.dumps(answer), parse_float=lambda number: pytest.approx(float(number), abs=2e-3))  # workers add up in another order
    assert near(printed) == reply.json()


def test_a_stretch_and_the_length_of_the_ranking(client):
    answer = ask(client, (SAMPLES / "bach_bwv846.mid").read_bytes(), start=20, duration=10, top=2).json()
    assert len(answer["ranking"]) == 2
    assert answer["timeline"][0]["start_sec"] == 20 and answer["timeline"][-1]["end_sec"] <= 30.01
    assert answer["piece"]["composer"] == "Bach" and answer["piece"]["offset_sec"] > 5


BAD = {
    "empty.mid": (b"", "is empty"),
    "diary.mid": (b"Dear diary", "is not MIDI"),
    "many.zip": (b"PK\x03\x04" + bytes(50), "is a zip archive"),
    "zeros.mid": (bytes(500), "is all zero bytes"),
    "cut.mid": (b"MThd\0\0", ""),
    "silent.mid": (b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk\0\0\0\x04\0\xff\x2f\0", "holds no notes"),
    "<script>alert(1)</script>.mid": (b"no", "is not MIDI"),
    "../../etc/passwd": (b"no", "is not MIDI"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_a_sentence(client, name):
    content, reason = BAD[name]
    reply = ask(client, content, name=name)
    answer = reply.json()
    assert reply.status_code == 400 and list(answer) == FIELDS
    assert answer["file"] == name and reason in answer["error"] and "/tmp" not in reply.text and "Traceback" not in reply.text


def test_too_large_is_refused_before_it_has_all_arrived(client):
    sent = 0

    def endless():
        nonlocal sent
        while sent < 50 * LIMITS.max_bytes:
            sent += 1 << 16
            yield bytes(1 << 16)

    try:
        assert client.post("/api/predict", content=endless()).status_code == 413
    except httpx.TransportError:  # the server hung up while we were sending, which is as good
        pass
    assert sent < 10 * LIMITS.max_bytes
    reply = ask(client, bytes(LIMITS.max_bytes + 1), name="big.mid")
    assert reply.status_code == 413 and reply.json()["file"] == "big.mid" and "larger than the limit" in reply.json()["error"]


@pytest.mark.parametrize("params", [dict(start=-1), dict(start="nan"), dict(duration=0), dict(duration="inf"), dict(top=0), dict(top="many"), dict(name="x" * 300)])
def test_a_parameter_that_makes_no_sense_is_refused(client, params):
    reply = ask(client, b"no", **params)
    assert reply.status_code == 422 and list(reply.json()) == FIELDS and next(iter(params)) in reply.json()["error"]


def test_only_post_and_no_pages_that_load_from_elsewhere(client):
    assert client.get("/api/predict").status_code == client.put("/api/predict").status_code == 405
    for path in ("/docs", "/redoc"):
        assert "cdn" not in client.get(path).text
    assert list(client.get("/openapi.json").json()["paths"]["/api/predict"]) == ["post"]


@pytest.mark.parametrize("path", ["/gradio_api/file=/etc/passwd", "/gradio_api/file=../../../../etc/passwd", "/file=/etc/passwd", f"/gradio_api/file={ROOT}/settings.ini", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/stream/x"])
def test_no_file_of_the_server_is_given_out(client, path):
    reply = client.get(path)
    assert reply.status_code == 404 and "root:" not in reply.text and "lib_name" not in reply.text


def test_nothing_is_uploaded_but_with_a_question(client, server):
    assert client.post("/gradio_api/upload", files={"files": ("a.mid", b"MThd")}).status_code == 404
    try:
        assert client.post("/gradio_api/queue/join", content=bytes(3 * LIMITS.max_bytes)).status_code == 413
    except httpx.TransportError:  # the server hung up while we were sending
        pass
    assert not [file for file in server[2].rglob("*") if file.suffix in (".mid", ".MID")]


def page_asks(client, session: str, data=(), event=None) -> str:
    "What the page's own function says to a visitor, or to a stranger who talks to it without the page."
    function, = (dependency["id"] for dependency in client.get("/config").json()["dependencies"])
    client.post("/gradio_api/queue/join", json=dict(data=list(data), fn_index=function, session_hash=session, event_data=event)).raise_for_status()
    said = ""
    with client.stream("GET", "/gradio_api/queue/data", params=dict(session_hash=session), timeout=60) as events:
        for line in events.iter_lines():
            said += line
            if "process_completed" in line or "close_stream" in line:
                break
    return said


def test_the_page_answers_what_its_script_sends(client):
    content = base64.b64encode((SAMPLES / "mozart_k545.mid").read_bytes()).decode()
    assert "K545" in page_asks(client, "a", event=dict(name="tune.mid", content=content, random=False))
    assert "Elise" in page_asks(client, "b", event=dict(sample="beethoven_woo59.mid", random=True))


@pytest.mark.parametrize("event", [
    dict(sample="/etc/passwd"), dict(sample="../weights/all.npz"), dict(sample=["x"]), dict(path="/etc/passwd"), None, [], "x",
    dict(name=dict(a=1), content="AAAA"), dict(name="a.mid", content=5), dict(name="a.mid", content="%%%"), dict(name="a.mid", content=dict(path="/etc/passwd")), dict(content="http://127.0.0.1:1/"),
], ids=str)
def test_no_path_and_no_address_is_accepted(client, event):
    "A stranger's event is answered with a sample or a sentence, or refused by Gradio; no file of the server is read, no other server asked."
    said = page_asks(client, f"stranger {event}", data=[], event=event)
    assert "process_completed" in said
    assert "root:" not in said and str(ROOT) not in said and "Traceback" not in said


def test_visitors_do_not_fill_the_memory(client, server):
    "Each visitor's last answer is remembered for the last fifty only."
    def crowd(n: int, name: str) -> None:
        for k in range(n):
            page_asks(client, f"{name}{k}", event=dict(sample="bach_bwv772.mid"))

    crowd(60, "first")
    before = _memory(server[1])
    crowd(40, "second")
    assert _memory(server[1]) < before + 15


def test_it_listens_on_this_machine_only(server):
    port = int(server[0].rsplit(":", 1)[1])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    mine = [address for address in listening if int(address.split(":")[1], 16) == port]
    assert mine and all(address.startswith("0100007F") for address in mine)


def test_a_taken_port_gets_a_sentence(server):
    port = server[0].rsplit(":", 1)[1]
    code = f"import sys; from composer_classify.cli import main; sys.exit(main(['app', '--port', '{port}']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "in use" in done.stderr and "Traceback" not in done.stderr


def _workers(pid: int) -> list[int]:
    children = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout.splitlines()
    return [int(line.split()[0]) for line in children if "spawn_main" in line]


def test_a_worker_that_dies_costs_no_answer(server):
    "Killed from outside, as by a system that runs out of memory, while it is busy: everybody gets an answer all the same."
    content = (SAMPLES / "bach_bwv846.mid").read_bytes()

    async def crowd():
        async with httpx.AsyncClient(base_url=server[0], timeout=120) as client:
            questions = [asyncio.create_task(client.post("/api/predict", content=content)) for _ in range(30)]
            await asyncio.sleep(0.7)
            os.kill(_workers(server[1])[0], signal.SIGKILL)
            return [reply.status_code for reply in await asyncio.gather(*questions)]

    assert asyncio.run(crowd()) == [200] * 30


def test_a_question_that_takes_too_long_is_ended(monkeypatch):
    "And the next one is answered by new workers."
    from composer_classify import app

    monkeypatch.setattr(app, "LONGEST", 6.0)

    async def ask_both():
        workers = app.Workers(1)
        with pytest.raises(app.LOST):  # an answer after 300 seconds would be none of these
            await workers.ask(time.sleep, 300)
        answer = await workers.ask(len, "abc")
        workers.stop()
        return answer

    assert asyncio.run(ask_both()) == 3


def test_who_hangs_up_leaves_no_trace(server, client):
    port = int(server[0].rsplit(":", 1)[1])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nMThd")
    assert ask(client, (SAMPLES / "bach_bwv772.mid").read_bytes()).status_code == 200
    time.sleep(0.5)
    assert "ClientDisconnect" not in (server[2] / "log").read_text()


def test_idle_lines_keep_nobody_out(server, client):
    port, lines = int(server[0].rsplit(":", 1)[1]), []
    for _ in range(WAITING + 10):
        line = socket.create_connection(("127.0.0.1", port))
        line.sendall(b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nMThd")
        lines.append(line)
    assert ask(client, (SAMPLES / "bach_bwv772.mid").read_bytes()).status_code == 200
    lines[0].settimeout(30)
    assert b" 408 " in lines[0].recv(4096)
    for line in lines:
        line.close()


async def _visitors(address: str, files: list[bytes], seconds: float, n: int = 20) -> tuple[list[float], list[int]]:
    "So many clients at once, each asking as soon as it has its answer."
    took, codes, end = [], [], time.monotonic() + seconds

    async def visit(seed: int) -> None:
        chance = random.Random(seed)
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            while time.monotonic() < end:
                begin = time.monotonic()
                codes.append((await client.post("/api/predict", content=chance.choice(files))).status_code)
                took.append(time.monotonic() - begin)

    await asyncio.gather(*(visit(seed) for seed in range(n)))
    return took, codes


def _memory(pid: int) -> float:
    "Resident megabytes of a process and its children."
    pids = [pid, *map(int, subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split())]
    statuses = [Path(f"/proc/{each}/status") for each in pids]
    return sum(int(line.split()[1]) / 1024 for status in statuses if status.exists() for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def test_more_than_may_wait_are_told_so(server):
    "Half of those who come at once are beyond the limit: each gets an answer or a 503, and the server goes on."
    content = (SAMPLES / "bach_bwv846.mid").read_bytes()

    async def crowd():
        async with httpx.AsyncClient(base_url=server[0], timeout=120, limits=httpx.Limits(max_connections=None)) as client:
            replies = await asyncio.gather(*(client.post("/api/predict", content=content) for _ in range(2 * WAITING)))
            return [reply.status_code for reply in replies], (await client.post("/api/predict", content=content)).status_code

    codes, after = asyncio.run(crowd())
    assert set(codes) <= {200, 503} and codes.count(200) >= WAITING and after == 200


@pytest.mark.alone
def test_twenty_visitors_at_once(real_files, server):
    "Nothing is lost, it stays bearable, and memory does not grow. A quarter of the minute that the project asks for; the note on the issue has the whole."
    files = list(real_files.values())
    asyncio.run(_visitors(server[0], files, 5))
    before = _memory(server[1])
    took, codes = asyncio.run(_visitors(server[0], files, 15))
    assert set(codes) <= {200, 400} and codes.count(200) > 0.95 * len(codes)
    assert np.quantile(took, 0.95) < 4  # 2 is the aim on an idle machine
    assert _memory(server[1]) < before * 1.25 + 50
