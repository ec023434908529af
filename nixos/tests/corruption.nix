# Damage on the disk is an error that is told, and a store that nothing starts from ends in a shell.
{ pkgs, ... }:
let
  # Nothing else has these bytes, and they are a file of their own in the store.
  victim = pkgs.runCommand "victim" { } ''
    for i in $(seq 200000); do echo "line $i of the victim"; done > "$out"
  '';
in
{
  nodes.machine = {
    imports = [ ./common/node.nix ];
    tests.contents = [ victim ];
    # Tests panic where other machines have their emergency shell.
    boot.initrd.systemd.services.panic-on-fail.enable = false;
  };

  testScript = ''
    # Without this a reboot is the end of QEMU.
    machine.start(allow_reboot=True)
    runs_from_the_store(machine)

    with subtest("a damaged file gives EIO and a line that names it"):
        machine.succeed(
            "blob=$(grep -rl 'line 150000 of the victim' /var/lib/tvix-store-mount/blobs); "
            "printf X | dd of=$blob bs=1 seek=2000000 conv=notrunc; sync; "
            "echo 3 > /proc/sys/vm/drop_caches"
        )
        error = machine.fail("cat ${victim} 2>&1 > /dev/null")
        assert "Input/output error" in error, error
        machine.succeed("journalctl -u tvix-store-mount.service | grep -F ${baseNameOf victim} >&2")
        machine.fail("store-mountd verify ${victim} >&2")

    with subtest("everything else goes on"):
        machine.succeed("systemctl is-active multi-user.target")

    def ends_in_a_shell(why: str) -> None:
        # What cannot be read any more need not be.
        machine.send_monitor_command("system_reset")
        machine.connected = False
        machine.wait_for_console_text(why)
        machine.wait_for_console_text("emergency mode|Press Enter for maintenance")

    with subtest("without a store the boot ends in an emergency shell that says why"):
        machine.succeed("mv /var/lib/tvix-store-mount/FORMAT /var/lib/tvix-store-mount/gone; sync")
        ends_in_a_shell("is not a store: it has no file FORMAT")

    # The damage is gone with QEMU.
    machine.crash()
    machine.start(allow_reboot=True)
    runs_from_the_store(machine)

    with subtest("so it does if the store is mounted, and init cannot be read"):
        machine.succeed(
            "for index in /var/lib/tvix-store-mount/packs/*.meta; do "
            "dd if=/dev/urandom of=$index bs=4096 count=1 conv=notrunc,fsync; done"
        )
        ends_in_a_shell("cannot be started from")
  '';
}
