"""Memory of an Ascend card as a framework would have it, for programs below the simulator.

A framework has opened the card and allocated before it asks the cache for anything; this does the
same through the library's own calls."""

import ctypes
import os

_TO_CARD, _FROM_CARD = 1, 2


class Card:
    """Card `ordinal`, the calling thread's from now on."""

    def __init__(self, ordinal):
        path = os.path.join(os.environ["ASCEND_RT_LIB_DIR"], "libascendcl.so")
        self._library = ctypes.CDLL(path)
        for call in ("aclrtMalloc", "aclrtMemcpy"):
            getattr(self._library, call).argtypes = None
        self._check("aclInit", self._library.aclInit(None))
        self._check("aclrtSetDevice", self._library.aclrtSetDevice(ordinal))
        self.ordinal = ordinal
        self._allocated = []

    @staticmethod
    def _check(call, code):
        assert code == 0, "%s answered %d" % (call, code)

    def allocate(self, size):
        """The address of `size` bytes."""
        address = ctypes.c_void_p()
        code = self._library.aclrtMalloc(ctypes.byref(address), ctypes.c_size_t(size), 0)
        self._check("aclrtMalloc", code)
        self._allocated.append(address.value)
        return address.value

    def free(self):
        """Gives back what was allocated, and the card."""
        for address in self._allocated:
            self._check("aclrtFree", self._library.aclrtFree(ctypes.c_void_p(address)))
        self._allocated = []
        self._check("aclrtResetDevice", self._library.aclrtResetDevice(self.ordinal))

    def _copy(self, to, source, size, kind):
        size = ctypes.c_size_t(size)
        code = self._library.aclrtMemcpy(
            ctypes.c_void_p(to), size, ctypes.c_void_p(source), size, kind
        )
        self._check("aclrtMemcpy", code)

    def write(self, address, data):
        held = ctypes.create_string_buffer(bytes(data), len(data))
        self._copy(address, ctypes.addressof(held), len(data), _TO_CARD)

    def read(self, address, size):
        held = ctypes.create_string_buffer(size)
        self._copy(ctypes.addressof(held), address, size, _FROM_CARD)
        return bytes(held.raw)

    def filled(self, data):
        """The address of new memory with these bytes."""
        address = self.allocate(len(data))
        self.write(address, data)
        return address
