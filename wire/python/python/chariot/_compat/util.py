"""Argument checks, ``Status`` and ``Context``."""

import threading

INT32_MAX = 0x7FFFFFFF
UINT32_MAX = 0xFFFFFFFF

_TRACE_LETTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789~.-/_!@#%^&*()+=:;"
)


def failure(name, message):
    """The error of a failed call, in the words of the old SDKs."""
    return RuntimeError("code: [%s], msg: [%s]" % (name, message))


def not_supported(what, why):
    """The error of what does not exist yet."""
    return failure("Not supported", "%s is not supported yet: %s" % (what, why))


class Validator:
    """Checks of arguments; the messages are those of the old SDKs."""

    @staticmethod
    def check_args_types(args):
        """Takes lists of [name, value, type, type, ...]; a bool passes as an int."""
        for name, value, *types in args:
            if not isinstance(value, tuple(types)):
                raise _type_error(name, types)

    @staticmethod
    def check_key_exists(args, keys):
        """Checks that every key is in the dict."""
        for key in keys:
            if key not in args:
                raise RuntimeError("The input of %s should be provided" % key)

    @staticmethod
    def check_param_range(name, value, low, high):
        """Checks that a number lies between two others, both included."""
        if not low <= value <= high:
            raise RuntimeError(
                "Invalid %s size %s is set, which should be between [%s,%s]"
                % (name, value, low, high)
            )


class StrictValidator(Validator):
    """As the newest SDK checks: a subclass is another type, so a bool is no int."""

    @staticmethod
    def check_args_types(args):
        for name, value, *types in args:
            if type(value) not in types:
                raise _type_error(name, types)


def _type_error(name, types):
    return TypeError("The input of %s has invalid type, valid type: %s" % (name, list(types)))


class Status:
    """How a call ended: a number, its printed name, and details."""

    __slots__ = ("_code", "_name", "_message")

    def __init__(self, code=0, name="OK", message=""):
        self._code = code
        self._name = name
        self._message = message

    def is_ok(self):
        return self._code == 0

    def is_error(self):
        return self._code != 0

    def get_code(self):
        return self._code

    def get_msg(self):
        return self._message

    def to_string(self):
        return "code: [%s], msg: [%s]" % (self._name, self._message)

    def __repr__(self):
        return self.to_string()


class Context:
    """Values that go along with the calls of a thread."""

    _local = threading.local()

    @staticmethod
    def set_trace_id(trace_id):
        """Names what the thread works on (for logs). At most 255 letters of the key alphabet."""
        if not isinstance(trace_id, str):
            raise _type_error("trace_id", [str])
        if len(trace_id) > 255 or not _TRACE_LETTERS.issuperset(trace_id):
            raise failure(
                "Invalid parameter", "The traceId contains illegal char(s) or is longer than 255"
            )
        Context._local.trace_id = trace_id

    @staticmethod
    def get_trace_id():
        """The name that this thread was given, or an empty one."""
        return getattr(Context._local, "trace_id", "")


class NotInitialized:
    """Stands where the connection will be: every use says that ``init`` was not called."""

    def __getattr__(self, _name):
        raise failure(
            "Not ready", "Client has not been initialized yet, please initialize it first."
        )


NOT_INITIALIZED = NotInitialized()
