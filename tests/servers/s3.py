"""Real S3 servers for tests and benchmarks: Ceph's RADOS Gateway on an in-memory OSD, and moto's server.

Both listen on loopback ports of their own, so several may run at once, and take one access key that is made at start.
Where they differ from AWS: README.md.
"""

import json
import os
import pathlib
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import types
import typing
import uuid

import boto3
import botocore.config

GIB = 1 << 30
# How long a server may take to start, in seconds.
PATIENCE = 60.0


class ServerDied(Exception):
    """A daemon ended by itself or did not serve in time; the message holds the end of its log."""


class Processes:
    """Daemons that live in one folder, each in a session of its own, and end with this process at the latest."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> None:
        """Starts a daemon that stays in the foreground; what it prints goes to NAME.log in the folder."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                tied(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=env
            )

    def wait_for_port(self, port: int) -> None:
        """Waits until something listens on a loopback port, as long as all daemons live."""
        end = time.monotonic() + PATIENCE
        while True:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > end:
                raise ServerDied(f"nothing listens on port {port} after {PATIENCE} s: {self._logs(self._running)}")
            time.sleep(0.01)

    def check(self) -> None:
        """Raises ServerDied if a daemon has ended."""
        dead = [name for name, process in self._running.items() if process.poll() is not None]
        if dead:
            codes = ", ".join(f"{name} with {self._running[name].returncode}" for name in dead)
            raise ServerDied(f"ended: {codes}\n{self._logs(dead)}")

    def pids(self) -> dict[str, int]:
        """The daemons' process numbers by name."""
        return {name: process.pid for name, process in self._running.items()}

    def kill(self) -> None:
        """Kills all: nothing they hold is worth a tidy end."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def _logs(self, names: typing.Iterable[str]) -> str:
        return "\n".join(
            f"{name}: {(self.folder / f'{name}.log').read_text(errors='replace')[-2000:]}" for name in names
        )


def tied(command: list[str]) -> list[str]:
    """The same command, killed by the kernel when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    return ["setpriv", "--pdeathsig", "KILL", *command]


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody uses. They lie below the range that outgoing connections take theirs from
    (ip(7), ip_local_port_range), so none of those gets in between before the server binds."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(20000, 32768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def new_key() -> tuple[str, str]:
    """An access key and its secret."""
    return secrets.token_hex(10).upper(), secrets.token_hex(20)


class S3Server:
    """What both servers offer. Served from the end of the constructor until end(); also a context manager."""

    endpoint: str
    region = "us-east-1"
    access_key: str
    secret_key: str

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-", dir=folder))
        self._processes = Processes(self._folder)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise

    def _start(self) -> None:
        """Starts the daemons and sets endpoint and keys."""
        raise NotImplementedError

    def client(self, service: str = "s3", **settings: typing.Any) -> typing.Any:
        """A boto3 client with the server's key; `settings` are boto3's (region_name, aws_access_key_id, config, …)."""
        once = botocore.config.Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, proxies={})
        config = settings.pop("config", None)
        defaults = {
            "endpoint_url": self.endpoint,
            "region_name": self.region,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        }
        return boto3.session.Session().client(
            service, **{**defaults, **settings}, config=once.merge(config) if config else once
        )

    def add_key(self) -> tuple[str, str]:
        """One more access key that may do everything, and its secret."""
        raise NotImplementedError

    def remove_key(self, key: tuple[str, str]) -> None:
        """Ends a key that add_key() made: the next request with it is refused."""
        raise NotImplementedError

    def pids(self) -> dict[str, int]:
        """Its daemons' process numbers by name, to account for their CPU time and memory."""
        return self._processes.pids()

    def end(self) -> None:
        """Stops everything and removes what it wrote. Raises ServerDied if a daemon had ended before."""
        try:
            self._processes.check()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._processes.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.end()


class Rgw(S3Server):
    """Ceph's RADOS Gateway with one monitor and one OSD that keeps objects in memory. No TLS.

    `memory_bytes` is what the OSD says it can hold; the memory it takes is about twice what is stored. What is deleted
    or overwritten is freed two hours later (Ceph's config reference of the gateway, rgw_gc_obj_min_wait).
    """

    def __init__(self, folder: pathlib.Path, memory_bytes: int = GIB) -> None:
        self._memory_bytes = memory_bytes
        super().__init__(folder)

    def _start(self) -> None:
        monitor_port, port = free_ports(2)
        self.access_key, self.secret_key = new_key()
        self._fsid, self._osd = str(uuid.uuid4()), str(uuid.uuid4())
        self._write_config(monitor_port, port)
        self._make_keyring()
        self._start_monitor(monitor_port)
        self._start_osd()
        self._make_user()
        self._processes.start("radosgw", self._ceph("radosgw", "-n", "client.rgw", "-f"))
        self._processes.wait_for_port(port)
        self.endpoint = f"http://127.0.0.1:{port}"

    def _write_config(self, monitor_port: int, port: int) -> None:
        folder = self._folder
        # cephx stays on: without it radosgw never gets past its start. A short propose interval saves seconds: every
        # pool and every state of the OSD is a round of the monitor's. rgw_dns_name: BUCKET.localhost is served too.
        (folder / "ceph.conf").write_text(f"""
[global]
fsid = {self._fsid}
mon_host = v2:127.0.0.1:{monitor_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
keyring = {folder}/keyring
run_dir = {folder}
admin_socket =
log_file =
log_to_stderr = true
mon_cluster_log_file =
paxos_propose_interval = 0.05
mon_data = {folder}/mon
mon_allow_pool_size_one = true
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = {self._memory_bytes}
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_thread_pool_size = 64
rgw_dns_name = localhost
""")

    def _ceph(self, program: str, *arguments: str) -> list[str]:
        return [program, "--conf", str(self._folder / "ceph.conf"), *arguments]

    def _run(self, *command: str) -> str:
        """Runs a set-up step to its end; what it prints."""
        self._processes.check()
        try:
            done = subprocess.run(
                tied(list(command)),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            self._processes.check()
            raise ServerDied(f"{' '.join(command)}: no end after {PATIENCE} s") from late
        if done.returncode != 0:
            self._processes.check()
            raise ServerDied(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def _make_keyring(self) -> None:
        rights = {
            "mon.": {"mon": "allow *"},
            "client.admin": {"mon": "allow *", "osd": "allow *"},
            "client.rgw": {"mon": "allow rw", "osd": "allow rwx"},
            "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
        }
        for name, caps in rights.items():
            flags = [flag for service, what in caps.items() for flag in ("--cap", service, what)]
            create = [] if (self._folder / "keyring").exists() else ["--create-keyring"]
            self._run("ceph-authtool", str(self._folder / "keyring"), *create, "--gen-key", "-n", name, *flags)

    def _start_monitor(self, port: int) -> None:
        monmap = str(self._folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", monmap)
        keyring = str(self._folder / "keyring")
        self._run(*self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring))
        self._processes.start("ceph-mon", self._ceph("ceph-mon", "-i", "a", "-f"))

    def _start_osd(self) -> None:
        self._run(*self._ceph("ceph", "osd", "new", self._osd))
        (self._folder / "osd").mkdir()
        self._run(*self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", self._osd))
        self._run(*self._ceph("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost"))
        self._processes.start("ceph-osd", self._ceph("ceph-osd", "-i", "0", "-f"))

    def _make_user(self) -> None:
        self._admin("user", "create", "--display-name", "t", *self._naming((self.access_key, self.secret_key)))

    def add_key(self) -> tuple[str, str]:
        key = new_key()
        self._admin("key", "create", *self._naming(key))
        return key

    def remove_key(self, key: tuple[str, str]) -> None:
        self._admin("key", "rm", "--access-key", key[0])

    def _admin(self, *arguments: str) -> None:
        self._run(*self._ceph("radosgw-admin", "-n", "client.rgw", *arguments), "--uid", "t")

    @staticmethod
    def _naming(key: tuple[str, str]) -> list[str]:
        return ["--access-key", key[0], "--secret", key[1]]


class Moto(S3Server):
    """moto's S3, STS and IAM in one process, in memory. `check_signatures` off: any key is taken, also none."""

    def __init__(self, folder: pathlib.Path, check_signatures: bool = True) -> None:
        self._check_signatures = check_signatures
        self._users: dict[str, str] = {}
        super().__init__(folder)

    def _start(self) -> None:
        (port,) = free_ports(1)
        self.access_key, self.secret_key = "none", "none"
        # So many requests are taken unsigned: those of _make_user.
        env = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "3"} if self._check_signatures else None
        self._processes.start("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], env)
        self._processes.wait_for_port(port)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._make_user()

    def _make_user(self) -> None:
        self.access_key, self.secret_key = self.add_key()

    def add_key(self) -> tuple[str, str]:
        """Of another user: one has two keys at most."""
        iam, user = self.client("iam"), secrets.token_hex(8)
        iam.create_user(UserName=user)
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps(everything))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        self._users[key["AccessKeyId"]] = user
        return key["AccessKeyId"], key["SecretAccessKey"]

    def remove_key(self, key: tuple[str, str]) -> None:
        self.client("iam").delete_access_key(UserName=self._users[key[0]], AccessKeyId=key[0])
