//! Sessions, connections, dispatch, one handler per opcode, reply.
