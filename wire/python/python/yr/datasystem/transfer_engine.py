"""``TransferEngine`` of the successor: it refuses by name."""

from enum import IntEnum

from chariot._compat.util import not_supported


class ErrorCode(IntEnum):
    kOk = 0
    kInvalid = 1
    kNotFound = 2
    kRuntimeError = 3
    kNotReady = 4
    kNotAuthorized = 5
    kNotSupported = 6


class Result:
    """How a call of the transfer engine ended."""

    def __init__(self, code=ErrorCode.kOk, message=""):
        self._code, self._message = code, message

    def is_ok(self):
        return self._code == ErrorCode.kOk

    def is_error(self):
        return self._code != ErrorCode.kOk

    def get_code(self):
        return self._code

    def get_msg(self):
        return self._message

    def to_string(self):
        return "code: [%s], msg: [%s]" % (self._code.name, self._message)


class TransferEngine:
    def __init__(self, *_arguments, **_options):
        raise not_supported("TransferEngine", "transfers between devices are not connected")
