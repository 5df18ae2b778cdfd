"""A scriptable MCP server over stdio, in plain Python: it writes down all that reaches it.

Environment: CANARY_LOG names the file that every received message is appended to, a line each;
CANARY_SCRIPT one with a JSON object that changes the start and the listings (see `DEFAULTS`).
A tool call does what the tool's name says (see `Canary.calls`), `raw` whatever the test wants.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CAPABILITIES = {
    "tools": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "prompts": {"listChanged": True},
    "completions": {},
    "logging": {},
}
TOOLS = (
    *("echo", "hidden", "add", "raw", "crash", "hang", "ask", "progress", "log", "changed"),
    *("noise", "huge", "env", "rename", "child", "stall"),
)
DEFAULTS = {
    "name": "canary",
    "start_delay_s": 0,
    "answer_delay_s": 0,
    "exit_with": None,
    "stderr": "",
    "before": "",
    "protocol": None,
    "capabilities": CAPABILITIES,
    "initialize": {},
    "tools": None,
    "pages": 1,
    "listing": None,
    "ignore_eof": False,
    "ignore_term": False,
    "crash_on": [],
}
SCHEMA = {"type": "object", "additionalProperties": True, "x-unknown": {"kept": [1, None]}}


def tool(name):
    return {
        "name": name,
        "description": f"secret description of {name}",
        "inputSchema": SCHEMA,
        "_meta": {"vendor/of": name},
        "x-vendor": {"kept": True},
    }


class Canary:
    """One server process."""

    def __init__(self, script):
        self.script = {**DEFAULTS, **script}
        self.asked = {}
        self.tools = self.script["tools"]
        if self.tools is None:
            self.tools = [tool(name) for name in TOOLS]
        self.log = os.open(os.environ["CANARY_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def run(self):
        script = self.script
        sys.stderr.write(script["stderr"])
        sys.stderr.flush()
        time.sleep(script["start_delay_s"])
        if script["exit_with"] is not None:
            sys.exit(script["exit_with"])
        self.write(base64.b64decode(script["before"]))
        if script["ignore_term"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for line in sys.stdin.buffer:
            os.write(self.log, line if line.endswith(b"\n") else line + b"\n")
            self.take(json.loads(line))
        while script["ignore_eof"]:
            time.sleep(60)

    def take(self, message):
        if "method" not in message:
            self.answered(message)
        elif message["method"] in self.script["crash_on"]:
            os._exit(7)
        elif "id" in message:
            self.request(message["id"], message["method"], message.get("params", {}))

    def request(self, request, method, params):
        answer = getattr(self, method.replace("/", "_"), None)
        if answer is None:
            self.send({"id": request, "error": {"code": -32601, "message": "Method not found"}})
        else:
            result = answer(request, params)
            if result is not None:
                self.send({"id": request, "result": result})

    # Requests of the protocol

    def initialize(self, request, params):
        time.sleep(self.script["answer_delay_s"])
        return {
            "protocolVersion": self.script["protocol"] or params["protocolVersion"],
            "capabilities": self.script["capabilities"],
            "serverInfo": {"name": self.script["name"], "version": "1", "x-own": "kept"},
            "instructions": f"use {self.script['name']} with care",
            **self.script["initialize"],
        }

    def ping(self, request, params):
        return {}

    def tools_list(self, request, params):
        if self.script["listing"] is not None:
            return json.loads(self.script["listing"])
        pages = self.script["pages"]
        number = int(params.get("cursor", "0"))
        size = -(-len(self.tools) // pages)
        result = {"tools": self.tools[number * size : (number + 1) * size], "_meta": {"p": number}}
        if number + 1 < pages:
            result["nextCursor"] = str(number + 1)
        return result

    def resources_list(self, request, params):
        return {"resources": [{"uri": f"{self.script['name']}://one", "name": "one"}]}

    def resources_templates_list(self, request, params):
        template = f"{self.script['name']}://items/{{id}}"
        return {"resourceTemplates": [{"uriTemplate": template, "name": "items"}]}

    def resources_read(self, request, params):
        return {"contents": [{"uri": params["uri"], "text": "content"}]}

    def resources_subscribe(self, request, params):
        return {}

    def resources_unsubscribe(self, request, params):
        return {}

    def prompts_list(self, request, params):
        return {"prompts": [{"name": "greet"}]}

    def prompts_get(self, request, params):
        text = {"type": "text", "text": f"prompt {params['name']}"}
        return {"messages": [{"role": "user", "content": text}]}

    def completion_complete(self, request, params):
        return {"completion": {"values": ["one", "two"]}}

    def logging_setLevel(self, request, params):
        return {}

    def tools_call(self, request, params):
        act = getattr(self, "call_" + params["name"], None)
        arguments = params.get("arguments", {})
        if act is None:
            return text_result(f"called {params['name']}")
        return act(request, params, arguments)

    # Tools

    def call_echo(self, request, params, arguments):
        return {**text_result(arguments.get("text", "")), "structuredContent": arguments}

    def call_add(self, request, params, arguments):
        total = arguments.get("a", 0) + arguments.get("b", 0)
        return {**text_result(str(total)), "isError": total < 0}

    def call_env(self, request, params, arguments):
        return text_result(json.dumps(sorted(os.environ)))

    def call_raw(self, request, params, arguments):
        """Write `frames` (base64) as they are; @ID@ becomes the id of this call."""
        for frame in arguments["frames"]:
            self.write(base64.b64decode(frame).replace(b"@ID@", json.dumps(request).encode()))

    def call_crash(self, request, params, arguments):
        sys.stderr.write(arguments.get("stderr", "") + "\n")
        sys.stderr.flush()
        if arguments.get("signal"):
            os.kill(os.getpid(), arguments["signal"])
        os._exit(arguments.get("code", 3))

    def call_hang(self, request, params, arguments):
        return None

    def call_stall(self, request, params, arguments):
        """Read nothing for a while."""
        time.sleep(arguments.get("seconds", 1))
        return text_result("back")

    def call_child(self, request, params, arguments):
        """Start a process in a session of its own that cares for nothing."""
        code = "import signal,time;signal.signal(15,signal.SIG_IGN);time.sleep(300)"
        child = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
        return text_result(str(child.pid))

    def call_ask(self, request, params, arguments):
        """Send a request of our own; the call is answered with the answer to it."""
        asking = arguments.get("id", 0)
        self.asked[json.dumps(asking)] = request
        message = {"id": asking, "method": arguments["method"]}
        if "params" in arguments:
            message["params"] = arguments["params"]
        self.send(message)
        for more in arguments.get("then", []):
            self.send(more)
        return text_result("asked") if arguments.get("leave") else None

    def answered(self, message):
        request = self.asked.pop(json.dumps(message.get("id")), None)
        if request is not None:
            answer = {key: message[key] for key in ("result", "error") if key in message}
            self.send({"id": request, "result": text_result(json.dumps(answer))})

    def call_progress(self, request, params, arguments):
        token = params["_meta"]["progressToken"]
        for number in range(arguments.get("steps", 3)):
            progress = {"progressToken": token, "progress": number, "x-own": "kept"}
            self.send({"method": "notifications/progress", "params": progress})
        return text_result("done")

    def call_log(self, request, params, arguments):
        self.send({"method": "notifications/message", "params": {"level": "info", "data": "hi"}})
        return text_result("logged")

    def call_changed(self, request, params, arguments):
        """Offer other tools from now on, and say so."""
        if "tools" in arguments:
            self.tools = [tool(name) for name in arguments["tools"]]
        self.tools = arguments.get("definitions", self.tools)
        self.send({"method": arguments.get("method", "notifications/tools/list_changed")})
        return text_result("changed")

    def call_noise(self, request, params, arguments):
        self.write(b"Debugger listening on port 1\n\x1b[31mred\x1b[0m\n\n\xff\xfe\n")
        return text_result("noisy")

    def call_huge(self, request, params, arguments):
        """A result of `size` bytes of base64, from a seed, so that the test can make it again."""
        return {"content": [{"type": "image", "data": blob(arguments["size"]), "mimeType": "x/y"}]}

    # Writing

    def send(self, message):
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def write(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]


def text_result(text):
    return {"content": [{"type": "text", "text": text}]}


def blob(size):
    block = base64.b64encode(bytes((n * 167 + n // 256) % 256 for n in range(3 * 4096))).decode()
    return (block * (size // len(block) + 1))[:size]


def main():
    script = {}
    if os.environ.get("CANARY_SCRIPT"):
        script = json.loads(Path(os.environ["CANARY_SCRIPT"]).read_text())
    Canary(script).run()


if __name__ == "__main__":
    main()
