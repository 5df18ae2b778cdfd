"""Which command lines start the gateway itself."""

import pytest

from gateway.config.self_start import starts_gateway


@pytest.mark.parametrize(
    "command",
    [
        "gateway connect web",
        "/usr/local/bin/gateway",
        "C:\\Tools\\Gateway.exe connect web",
        "mcp-tool-gateway connect web",
        "./venv/bin/mcp-tool-gateway",
        "python -m gateway connect web",
        "/usr/bin/python3.12 -u -X utf8 -m gateway",
        "python3 -mgateway",
        "pythonw.exe -m gateway.cli.main",
        "py -3 -m gateway",
        "uvx mcp-tool-gateway connect web",
        "uvx mcp-tool-gateway@1.2 connect web",
        "uvx --python 3.12 --from mcp_tool_gateway[all]==1.0 gateway connect web",
        "uvx --from git+https://example.org/mcp-tool-gateway.git gateway",
        "uv tool run --from mcp-tool-gateway gateway",
        "uv run gateway connect web",
        "uv run --directory /src --with x python -m gateway",
        "uv run -m gateway",
        "uv --directory /src run gateway",
        "pipx run mcp-tool-gateway connect web",
        "pipx run --spec mcp-tool-gateway gateway connect web",
        "env gateway connect web",
        "/usr/bin/env -i -u HOME A=1 B=2 gateway",
        "env -- A=1 python3 -m gateway",
    ],
)
def test_the_gateway_is_recognised(command: str) -> None:
    assert starts_gateway(command.split())


@pytest.mark.parametrize(
    "command",
    [
        "npx -y @playwright/mcp",
        "gateway-mcp-server",
        "my-gateway",
        "docker mcp gateway run",
        "node gateway",
        "python gateway",
        "python -m server gateway",
        "python server.py -m gateway",
        "python -c pass -m gateway",
        "python -m gateways",
        "uvx mcp-server-git --mode gateway",
        "uvx --from other gateway",
        "uvx --with mcp-tool-gateway server",
        "uv run server.py gateway",
        "uv pip install mcp-tool-gateway",
        "pipx run server --name gateway",
        "env A=gateway server",
    ],
)
def test_other_programs_are_not(command: str) -> None:
    assert not starts_gateway(command.split())


def test_nothing_starts_nothing() -> None:
    assert not starts_gateway([])
