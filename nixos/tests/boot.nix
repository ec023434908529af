# A machine boots from its store image alone.
{ pkgs, ... }:
{
  name = "tvix-store-mount-boot";

  nodes.machine = {
    imports = [ ./common/node.nix ];
    # The whole of it from the mount, without an overlay.
    services.tvix-store-mount.writable.enable = false;
    nix.enable = false;
  };

  testScript = ''
    ${builtins.readFile ./common/asserts.py}

    runs_from_the_store(machine, "/nix/store")

    with subtest("paths have the contents that they were imported with"):
        machine.succeed("store-mountd verify >&2")
        system = machine.succeed("readlink -f /run/current-system").strip()
        known = machine.succeed(f"store-mountd info --json {system}")
        served = machine.succeed(
            f"${pkgs.nix}/bin/nix-hash --type sha256 --base32 {system}"
        ).strip()
        assert served in known, f"{served} is not what is known: {known}"

    with subtest("nobody writes"):
        machine.fail("touch /nix/store/x")
        machine.fail("rm -r /run/current-system/sw")
  '';
}
