# Assertions that tests share. `machine` is a machine of the test driver.

from typing import Callable


def runs_from_the_store(
    machine: Machine, lower: str = "/run/tvix-store-mount/lower"
) -> None:
    """The system is executed from our mount, and all of it works."""
    machine.wait_for_unit("multi-user.target")
    kind = machine.succeed(f"findmnt -n -f -o FSTYPE --mountpoint {lower}").strip()
    assert kind.startswith("fuse"), f"{lower} is {kind}"
    init = machine.succeed("readlink /proc/1/exe").strip()
    assert init.startswith("/nix/store/"), f"init is {init}"
    # Nothing of the host's store shows through.
    machine.fail("findmnt -n -t 9p,virtiofs -o TARGET | grep ^/nix")
    _, state = machine.execute("systemctl is-system-running --wait")
    assert state.strip() == "running", machine.succeed("systemctl --failed")


def serving_pids(machine: Machine) -> tuple[str, str]:
    """The supervisor's process and the worker's."""
    main = machine.succeed(
        "systemctl show --value --property MainPID tvix-store-mount.service"
    ).strip()
    worker = machine.wait_until_succeeds(f"pgrep --parent {main} --newest").strip()
    return main, worker


def survives(machine: Machine, act: Callable[[], None]) -> None:
    """`act` happens while the store is read without a pause, and no reader notices."""
    machine.succeed(
        "systemd-run --unit=load --service-type=exec -- "
        "/run/current-system/sw/bin/bash -ec '"
        "while [ ! -e /tmp/enough ]; do "
        "find -L /run/current-system/sw/bin -type f -exec cat {} + > /dev/null; "
        "echo 3 > /proc/sys/vm/drop_caches; done'"
    )
    act()
    machine.sleep(5)
    machine.succeed("touch /tmp/enough")
    machine.wait_until_fails("systemctl is-active load.service")
    result = machine.succeed("systemctl show --value --property Result load.service").strip()
    assert result == "success", f"the load ended with {result}"
    machine.succeed("rm /tmp/enough")
