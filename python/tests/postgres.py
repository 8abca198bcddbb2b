"""PostgreSQL for a test: a cluster of its own in a temporary folder, on a free port, gone at the end."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

from behind import eventually
from harness.apps import Program
from harness.base import free_port


def binaries():
    """The folder of the newest server's programs, as Debian has it; None without."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    return found[-1].parent if found else None


class Postgres(Program):
    what = "postgresql"

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tarry-postgres-"))
        self.port = free_port()
        # The server refuses to run as root.
        as_user = []
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        data = self.folder / "data"
        initdb = [*as_user, binaries() / "initdb", "--auth=trust", "--username=postgres", "--no-sync", "--pgdata", data]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/")
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder, "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        super().__init__([*as_user, binaries() / "postgres", "-D", data, *options], cwd="/")
        try:
            self.wait_line("database system is ready to accept connections")
            self.ask("CREATE DATABASE app", database="postgres")
        except BaseException:
            self.stop()
            raise

    def ask(self, *statements, database="app"):
        """The lines that psql prints, one transaction; raises CalledProcessError for an error."""
        commands = [part for statement in statements for part in ("-c", statement)]
        connect = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        done = subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *connect, *commands], capture_output=True, text=True, check=True
        )
        return done.stdout.split("\n")[:-1]

    def connections(self):
        """The states of the app's connections."""
        return self.ask("SELECT state FROM pg_stat_activity WHERE datname = 'app' AND application_name <> 'psql' ORDER BY 1")

    def wait_connections(self, expected):
        return eventually(lambda: (self.connections() == expected) or None, f"connections {expected}")

    def stop(self):
        try:
            super().stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
