"""The commands of deploy/README.md, "Bare metal", on a fresh Debian with systemd's tools; no systemd runs there."""

import pathlib
import re

import oci
from processes import ROOT

# In place of systemd, which would start the daemon as its unit says.
START = r"""
systemctl is-enabled weightd
systemd-analyze verify weightd.service
install -d -o weightd -g weightd -m 700 /run/weightd
command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/weightd.service)
setpriv --reuid=weightd --regid=weightd --clear-groups $command &
daemon=$!
for try in $(seq 300); do weightctl status >/dev/null 2>&1 && break; sleep 0.1; done
"""
CHECK = """
nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
$nobody test -S /run/weightd/users/weightd.sock
$nobody sh -c '! cat /etc/weightd/weightd.yaml'
kill $daemon
wait $daemon
"""
GONE = "test -z \"$(find /opt /usr/local/bin /run /etc -iname '*weightd*' -o -iname weightctl)\"\n"


def commands(name: str) -> str:
    """One block of the page."""
    (block,) = re.findall(rf"```sh {name}\n(.*?)```", (ROOT / "deploy/README.md").read_text(), re.DOTALL)
    return str(block)


def test_install_tune_upgrade_uninstall(engine: oci.Engine, tarball: pathlib.Path, tmp_path: pathlib.Path) -> None:
    base = oci.base_image("bookworm", ["procps", "systemd"])
    install = commands("install").replace("weightctl status", START + "weightctl status" + CHECK)
    steps = [install, commands("tune"), "systemd-analyze verify weightd-tune.service\n", commands("upgrade")]
    script = "".join(["set -ex\n", *steps, commands("uninstall"), GONE])
    (tmp_path / "script").write_text(script.replace(" --now", ""))
    (tmp_path / tarball.name).hardlink_to(tarball)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base}\nENV SYSTEMD_OFFLINE=1\nCOPY {tarball.name} script /work/\nWORKDIR /work\nRUN bash script\n"
    )
    engine.build(tmp_path, "installed")
