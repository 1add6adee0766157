"""What ``datasystem`` (chariot-ds 0.1.6) and ``yr.datasystem`` (its successor) share.

Every client class exists once, here; the two packages choose the signature, the strictness of
argument checks, and the words of messages where the generations differ.
"""
