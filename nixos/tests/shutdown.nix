# Poweroff and reboot go to their end while the system is executed from the mount.
{
  nodes.machine = ./common/node.nix;

  testScript = ''
    import time

    # A stop job that waits for the mount would last 90 s.
    PATIENCE = 60

    # Without this a reboot is the end of QEMU.
    machine.start(allow_reboot=True)
    runs_from_the_store(machine)
    machine.succeed("echo kept > /var/lib/kept && sync")

    with subtest("reboot"):
        machine.execute("systemctl reboot", check_return=False)
        machine.connected = False
        runs_from_the_store(machine)
        assert machine.succeed("cat /var/lib/kept").strip() == "kept"

    with subtest("poweroff"):
        begin = time.monotonic()
        machine.shutdown()
        took = time.monotonic() - begin
        assert took < PATIENCE, f"poweroff took {took:.0f} s"

    with subtest("the file systems are clean"):
        machine.start()
        runs_from_the_store(machine)
        machine.fail("journalctl --boot --grep 'recovering journal|not properly unmounted'")
  '';
}
