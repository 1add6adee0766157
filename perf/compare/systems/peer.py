"""What the peers share: a daemon on the daemon's CPU, client processes on the clients'."""

import json
import select
import subprocess

from machine import HERE, Process, Unavailable
from report import merge

CLIENT_TIMEOUT = 300.0


class ClientProcess:
    """A client process that answers commands; see clients/loop.py."""

    def __init__(self, command, cpus, log, env, native):
        self.native = native
        self.process = Process(command, cpus, log, env=env, text=True, bufsize=1,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **command):
        if self.native:
            words = [command["do"]] if command["do"] != "run" else ["run"]
            words += [int(v) if isinstance(v, bool) else v for k, v in command.items() if k != "do"]
            line = " ".join(map(str, words))
        else:
            line = json.dumps(command)
        try:
            self.process.child.stdin.write(line + "\n")
        except OSError:
            pass  # the answer that does not come says why

    def answer(self):
        """A line; each command has one, so that nothing is left in the reader's buffer."""
        out = self.process.child.stdout
        ready, _, _ = select.select([out], [], [], CLIENT_TIMEOUT)
        line = out.readline() if ready else ""
        if not line:
            reason = self.process.tail() if ready else f"no answer in {CLIENT_TIMEOUT:.0f} s"
            raise Unavailable(f"the client failed: {reason}")
        return json.loads(line)

    def stop(self):
        try:
            self.process.child.stdin.write("quit\n")
            self.process.child.stdin.close()
            self.process.child.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.process.stop()


class Peer:
    """A foreign store. Subclasses install, start and stop it and name their clients' commands."""

    title = ""

    def __init__(self, flavour):
        self.flavour = flavour
        self.name = f"{self.title} ({'C++' if flavour == 'native' else 'Python'})"
        self.daemon = None

    def install(self):
        raise NotImplementedError

    def start(self, run):
        raise NotImplementedError

    def client(self, index):
        """Command and environment of a client, the first of which fills the store."""
        raise NotImplementedError

    def stop(self):
        if self.daemon is not None:
            self.daemon.stop()
        self.daemon = None

    def script(self, name):
        return HERE / "clients" / name

    def visit(self, run, size, cells):
        """Starts afresh, fills, measures each cell and stops; yields (cell, measurement)."""
        clients = []
        try:
            self.start(run)
            for index in range(max(cell.clients for cell in cells)):
                command, env = self.client(index)
                log = run.directory / f"{self.title}-{self.flavour}-client.log"
                one = ClientProcess(command, run.client_cpus, log, env, self.flavour == "native")
                clients.append(one)
                one.answer()
            for index, one in enumerate(clients):
                one.ask(do="fill", size=size, keys=run.scale.keys[size], store=index == 0)
                filled = one.answer()
                if "error" in filled:
                    raise Unavailable(f"filling failed: {filled['error']}")
            for cell in cells:
                together = clients[: cell.clients]
                for index, one in enumerate(together):
                    one.ask(do="run", op=cell.op, batch=cell.batch, seconds=run.scale.seconds,
                            seed=run.round * 100 + index, part=index, parts=cell.clients)
                yield cell, merge([one.answer() for one in together])
        finally:
            for one in reversed(clients):
                one.stop()
            self.stop()
