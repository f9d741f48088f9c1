"""What can go wrong between lsp_tool and a language server. All of it becomes an observation: an agent can work without one.

LspError
├── LspRefusalError       the question cannot be asked: no such file, symbol not on the line, no server for the language
├── LspRequestError       the server answered with an error
├── MirrorError           the sandbox's files cannot be copied for the server
└── ServerBrokenError     the server must be ended
    ├── ServerEndedError      it is gone
    ├── ServerTimeoutError    no answer within the deadline
    └── ServerGarbageError    what it says is not the protocol
"""


class LspError(RuntimeError):
    """Carries one message that says what failed and what to do."""


class LspRefusalError(LspError):
    """The question cannot be asked."""


class LspRequestError(LspError):
    """The server answered with an error."""


class MirrorError(LspError):
    """The sandbox's files cannot be copied for the server."""


class ServerBrokenError(LspError):
    """The server must be ended."""


class ServerEndedError(ServerBrokenError):
    """The server is gone."""


class ServerTimeoutError(ServerBrokenError):
    """No answer within the deadline."""


class ServerGarbageError(ServerBrokenError):
    """What the server says is not the protocol."""
