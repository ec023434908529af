# Damage on the disk is an error that is told, and a store that is not there ends in a shell.
{ pkgs, ... }:
let
  # Nothing else has these bytes, and they are a file of their own in the store.
  victim = pkgs.runCommand "victim" { } ''
    for i in $(seq 200000); do echo "line $i of the victim"; done > "$out"
  '';
in
{
  name = "tvix-store-mount-corruption";

  nodes.machine = {
    imports = [ ./common/node.nix ];
    tests.contents = [ victim ];
  };

  testScript = ''
    ${builtins.readFile ./common/asserts.py}

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

    with subtest("without a store the boot ends in an emergency shell that says why"):
        machine.succeed("mv /var/lib/tvix-store-mount/FORMAT /var/lib/tvix-store-mount/gone; sync")
        machine.execute("systemctl reboot", check_return=False)
        machine.connected = False
        machine.wait_for_console_text("tvix-store-mount")
        machine.wait_for_console_text("emergency mode|Emergency Mode|Press Enter for maintenance")
  '';
}
