"""Who runs this process, as records name a person."""

import os


def user_name() -> str:
    """The user of the operating system: not what the environment says, which anybody can set."""
    if os.name != "posix":
        import getpass

        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
