"""Leaves word of an MCP call in the spool, for the gateway that will get it."""

import time

from gateway.audit.keys import Digester
from gateway.config.directories import audit_directory, spool_directory
from gateway.config.settings import Settings
from gateway.errors import UserError
from gateway.hook.message import Message
from gateway.identity.spool import AlreadyRegistered, Registration, Spool, arguments_digest
from gateway.state import make_private_directory


def register(settings: Settings, message: Message) -> str:
    """Register the call that `message` tells of; "" or, in one sentence, why that is impossible."""
    host = message.host
    directory = audit_directory(settings)
    try:
        make_private_directory(directory)
        digester = Digester.open(directory)
        registration = Registration(
            tool_use_id=host.tool_use_id,
            session=host.session,
            agent_type=host.agent_type,
            agent_id=host.agent_id,
            tool=message.tool,
            arguments_digest=arguments_digest(message.arguments, digester.digest),
            time_ns=time.time_ns(),
        )
        Spool.open(spool_directory()).register(registration)
    except (AlreadyRegistered, UserError, ValueError) as error:
        return f"the call cannot be registered for the gateway: {error}"
    except RecursionError:
        return "the call cannot be registered for the gateway: its input is nested too deeply"
    except OSError as error:
        return f"the call cannot be registered for the gateway: {error.strerror}"
    return ""
