"""A child process as an upstream: frames, noise, flow, and an end that leaves nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from upstream_support import Recorder, is_running, open_fds, until

from gateway.transports.process import StdioSpec, StdioUpstream
from gateway.transports.upstream import UpstreamUnavailable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

ENV = {"PATH": os.environ["PATH"], "PLANTED": "s3cr3t-value"}


def upstream(*argv: str, events: Recorder, limit: int = 1 << 20, **more) -> StdioUpstream:
    spec = {"env": ENV, "cwd": "/", **more}
    return StdioUpstream(StdioSpec("up", argv, max_frame_bytes=limit, **spec), events)


def python(code: str, *args: str, events: Recorder, **more) -> StdioUpstream:
    return upstream(sys.executable, "-c", code, *args, events=events, **more)


def test_frames_go_in_and_come_out_in_order(run) -> None:
    async def scenario() -> None:
        events = Recorder()
        cat = upstream("cat", events=events)
        await cat.start()
        sent = [f'{{"id":{n}}}'.encode() for n in range(1000)]
        for frame in sent:
            cat.send(frame, 1)
        await until(lambda: len(events.frames) == 1000)
        assert events.frames == [(frame, None) for frame in sent]
        await cat.stop(5)
        assert events.closings == [("exited with status 0", "")]
        cat.send(b"{}")  # after the end: nothing happens

    run(scenario())


def test_a_frame_with_a_line_feed_is_not_sent(run) -> None:
    async def scenario() -> None:
        events = Recorder()
        cat = upstream("cat", events=events)
        await cat.start()
        with pytest.raises(ValueError, match="line feed"):
            cat.send(b'{}\n{"id":1}')
        await cat.stop(5)
        assert events.frames == []

    run(scenario())


def test_the_arguments_reach_the_program_literally(run) -> None:
    odd = ("; touch x", "$(id)", "`id`", "a\nb", "* ?", '"')

    async def scenario() -> None:
        events = Recorder()
        child = python("import json,sys; print(json.dumps(sys.argv[1:]))", *odd, events=events)
        await child.start()
        await until(lambda: events.closings)
        assert json.loads(events.texts[0]) == list(odd)
        await child.stop(1)

    run(scenario())


def test_the_child_has_only_the_given_environment_and_no_descriptor_of_ours(run) -> None:
    code = "import os,json; print(json.dumps([dict(os.environ), os.listdir('/proc/self/fd')]))"

    async def scenario() -> None:
        events = Recorder()
        other = upstream("cat", events=Recorder())
        await other.start()
        child = python(code, events=events)
        inheritable = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(inheritable, True)
        await child.start()
        os.close(inheritable)
        await until(lambda: events.closings)
        env, fds = json.loads(events.texts[0])
        assert env.pop("MCP_TOOL_GATEWAY_SESSION")
        env.pop("LC_CTYPE", None)  # set by the interpreter itself
        assert env == ENV
        assert sorted(fds)[:3] == ["0", "1", "2"]
        assert len(fds) == 4  # and the one it lists them with
        await child.stop(1)
        await other.stop(1)

    run(scenario())


def test_lines_that_are_no_messages_are_dropped_and_counted(run) -> None:
    code = r"""
import sys
sys.stdout.buffer.write(b"Listening...\n\x1b[1mHi\x1b[0m\n\n  \n\t{\"a\":1}\r\n\xff\n[]\ntrue\n{}")
"""

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events)
        await child.start()
        await until(lambda: events.closings)
        assert events.texts == [b'\t{"a":1}', b"[]", b"{}"]
        assert events.noises == [12, 10, 2, 1, 4]
        await child.stop(1)

    run(scenario())


def test_an_oversized_line_is_reported_and_the_next_frame_works(run) -> None:
    code = """
print('{"id":5,"result":"' + 'x' * 5_000_000 + '"}')
print('{"id":6}')
"""

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events, limit=1_000_000)
        await child.start()
        await until(lambda: events.closings)
        assert events.texts == [b'{"id":6}']
        (dropped,) = events.dropped
        assert dropped.size_bytes > 5_000_000
        assert dropped.head.startswith(b'{"id":5')
        await child.stop(1)

    run(scenario())


def test_a_ten_megabyte_frame_passes_whole_both_ways(run) -> None:
    async def scenario() -> None:
        events = Recorder()
        cat = upstream("cat", events=events, limit=16 << 20)
        await cat.start()
        frame = b'{"x":"' + os.urandom(5 << 20).hex().encode() + b'"}'
        cat.send(frame)
        await until(lambda: events.frames)
        assert events.texts == [frame]
        await cat.stop(5)

    run(scenario())


def test_a_child_that_does_not_read_pauses_the_writer_and_then_resumes_it(
    run, tmp_path: Path
) -> None:
    code = """
import sys
open(sys.argv[1]).read()
print('{"n":%d}' % len(sys.stdin.buffer.read()), flush=True)
"""

    fifo = tmp_path / "go"
    os.mkfifo(fifo)

    async def scenario() -> None:
        events = Recorder()
        child = python(code, str(fifo), events=events)
        await child.start()
        sent = 0
        while not events.paused:
            child.send(b"x" * 9_999)
            sent += 10_000
            assert sent < 10_000_000
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert events.paused
        os.close(os.open(fifo, os.O_WRONLY))
        await until(lambda: not events.paused)
        await child.stop(5)
        assert events.texts == [b'{"n":%d}' % sent]

    run(scenario())


def test_paused_reading_holds_the_child_back(run) -> None:
    code = """
import sys
for n in range(20_000):
    print('{"n":%d,"x":"%s"}' % (n, 'x' * 100), flush=True)
print('wrote all', file=sys.stderr, flush=True)
"""

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events)
        await child.start()
        child.pause_reading()
        child.pause_reading()
        await asyncio.sleep(0.3)
        assert events.frames == []
        assert child.stderr_tail() == ""
        child.resume_reading()
        await until(lambda: events.closings)
        assert [json.loads(text)["n"] for text in events.texts] == list(range(20_000))
        assert child.stderr_tail() == "wrote all"
        await child.stop(1)

    run(scenario())


def test_a_flood_on_stderr_blocks_nothing_and_keeps_only_its_end(run) -> None:
    code = """
import sys
for n in range(50_000): print(f"line {n} " + "x" * 60, file=sys.stderr)
print("{}")
"""

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events)
        await child.start()
        await until(lambda: events.closings, 20)
        assert events.texts == [b"{}"]
        assert child.stderr_tail(1) == "line 49999 " + "x" * 60
        assert len(child.stderr_tail(10_000).splitlines()) == 200
        assert child.stderr_tail(0) == ""
        assert events.closings[0][1].endswith(child.stderr_tail(1))
        await child.stop(1)

    run(scenario())


def test_stderr_is_shown_with_control_characters_escaped_and_secrets_blotted_out(run) -> None:
    code = r"""
import sys
sys.stderr.buffer.write("\x1b[31mred\x1b[0m \u202e\x00 token=s3cr3t-value\nä\r\n\xff"[:-1].encode())
sys.exit(3)
"""

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events, secrets=("s3cr3t-value",))
        await child.start()
        await until(lambda: events.closings)
        shown = "\\x1b[31mred\\x1b[0m \\u202e\\x00 token=***\nä"
        assert events.closings == [("exited with status 3", shown)]
        await child.stop(1)

    run(scenario())


@pytest.mark.parametrize(
    ("argv", "cwd", "words"),
    [
        (("no-such-command-here",), "/", "no executable command 'no-such-command-here'"),
        (("./nothing",), "/", "there is no file './nothing'"),
        (("/etc/passwd",), "/", "'/etc/passwd' is not an executable file"),
        (("/etc",), "/", "'/etc' is not an executable file"),
        (("cat",), "/no/such/folder", "working directory '/no/such/folder' does not exist"),
        (("cat", "a\0b"), "/", "null byte"),
    ],
)
def test_what_cannot_be_started_says_why(run, argv, cwd, words) -> None:
    async def scenario() -> None:
        events = Recorder()
        before = open_fds()
        child = upstream(*argv, events=events, cwd=cwd)
        with pytest.raises(
            UpstreamUnavailable, match="upstream 'up' could not be started"
        ) as failed:
            await child.start()
        assert words in failed.value.reason
        assert events.closings == []
        assert open_fds() == before

    run(scenario())


def test_a_file_without_an_interpreter_cannot_be_started(run, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)

    async def scenario() -> None:
        child = upstream("./script", events=Recorder(), cwd=str(tmp_path))
        with pytest.raises(UpstreamUnavailable, match="could not be started"):
            await child.start()

    run(scenario())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(0)", "exited with status 0"),
        ("raise SystemExit(7)", "exited with status 7"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9"),
        ("import os; os.abort()", "was ended by signal 6"),
    ],
)
def test_an_exit_is_reported_once_and_with_what_came_before_it(run, code, reason) -> None:
    async def scenario() -> None:
        events = Recorder()
        child = python('print("{}", flush=True);' + code, events=events)
        await child.start()
        await until(lambda: events.closings)
        assert events.texts == [b"{}"]
        await child.stop(1)
        await child.stop(1)
        assert [closing[0] for closing in events.closings] == [reason]

    run(scenario())


def test_an_exit_is_reported_although_a_grandchild_holds_the_pipes(run) -> None:
    code = """
import subprocess
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print('{"pid":%d,"x":"%s"}' % (child.pid, 'x' * 60_000), flush=True)
"""

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events)
        await child.start()
        await until(lambda: events.frames)
        ended = time.monotonic()
        await until(lambda: events.closings)
        assert time.monotonic() - ended < 1
        grandchild = json.loads(events.texts[0])["pid"]
        await until(lambda: not is_running(grandchild), 5)  # without stop()
        await child.stop(1)

    run(scenario())


@pytest.mark.parametrize(("fd", "what"), [(0, "input"), (1, "output")])
def test_a_child_that_closes_a_pipe_but_stays_is_given_up(run, fd, what) -> None:
    code = f"import os,time; print('{{}}',flush=True); os.close({fd}); time.sleep(60)"

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events)
        await child.start()
        pid = child.pid
        await until(lambda: events.frames)
        await asyncio.sleep(0.1)
        child.send(b"{}")
        await until(lambda: events.closings)
        assert [closing[0] for closing in events.closings] == [
            f"closed its {what} but keeps running"
        ]
        await child.stop(1)
        assert not is_running(pid)

    run(scenario())


def test_a_child_that_ends_at_end_of_input_is_stopped_at_once(run) -> None:
    async def scenario() -> None:
        child = upstream("cat", events=Recorder())
        await child.start()
        began = time.monotonic()
        await child.stop(10)
        assert time.monotonic() - began < 0.5

    run(scenario())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; print('{}', flush=True); time.sleep(60)", "was ended by signal 15"),
        (
            "import signal,time; signal.signal(15, signal.SIG_IGN)\n"
            "print('{}', flush=True)\nwhile True: time.sleep(60)",
            "was ended by signal 9",
        ),
    ],
)
def test_a_child_that_ignores_the_end_of_input_is_ended(run, code, reason) -> None:
    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events)
        await child.start()
        await until(lambda: events.frames)
        await child.stop(0.2)
        assert [closing[0] for closing in events.closings] == [reason]

    run(scenario())


def test_a_child_that_cannot_write_while_reading_is_paused_still_ends(run) -> None:
    code = """
import sys
print('{}' * 500_000, flush=True)
sys.stdin.read()
"""

    async def scenario() -> None:
        events = Recorder()
        child = python(code, events=events)
        await child.start()
        child.pause_reading()
        await asyncio.sleep(0.1)
        await child.stop(5)
        assert events.closings == [("exited with status 0", "")]

    run(scenario())


def test_a_hundred_starts_and_stops_leave_nothing_behind(run) -> None:
    async def scenario() -> None:
        before = None
        for _ in range(10):
            children = [upstream("cat", events=Recorder()) for _ in range(10)]
            await asyncio.gather(*(child.start() for child in children))
            await asyncio.gather(*(child.stop(5) for child in children))
            await asyncio.sleep(0.01)
            before = before or open_fds()
        assert open_fds() == before

    run(scenario())
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == ""


GATEWAY = """
import asyncio, sys
from gateway.transports.process import StdioSpec, StdioUpstream

class Events:
    def frame_received(self, frame, request):
        print(frame.decode(), flush=True)
    def frame_dropped(self, dropped): ...
    def noise(self, size): ...
    def pause(self): ...
    def resume(self): ...
    def closed(self, reason, detail): ...

async def main():
    for code in sys.argv[1:]:
        spec = StdioSpec("up", (sys.executable, "-c", code), {"PATH": "/"}, "/", 1000)
        await StdioUpstream(spec, Events()).start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_children_of_a_killed_gateway_end() -> None:
    reads = "import os,sys; print([os.getpid()], flush=True); sys.stdin.read()"
    sleeps = "import os,time; print([os.getpid()], flush=True); time.sleep(60)"
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, reads, sleeps], stdout=subprocess.PIPE, text=True
    )
    assert gateway.stdout is not None
    pids = [json.loads(gateway.stdout.readline())[0] for _ in range(2)]
    assert all(map(is_running, pids))
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    gateway.stdout.close()
    deadline = time.monotonic() + 5
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_signal_to_the_terminals_process_group_does_not_reach_the_child(run) -> None:
    async def scenario() -> None:
        child = upstream("cat", events=Recorder())
        await child.start()
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
        await child.stop(1)

    run(scenario())


def test_the_exit_is_noticed_where_the_kernel_offers_no_handle(run, monkeypatch) -> None:
    def forbidden(pid: int) -> int:
        raise PermissionError(pid)

    monkeypatch.setattr(os, "pidfd_open", forbidden)

    async def scenario() -> None:
        events = Recorder()
        child = python("raise SystemExit(4)", events=events)
        await child.start()
        await until(lambda: events.closings)
        assert events.closings == [("exited with status 4", "")]
        await child.stop(1)

    run(scenario())
